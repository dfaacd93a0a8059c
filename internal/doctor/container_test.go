package doctor

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
)

// TestWhatContainersSee: each way in which a container has something else than the
// node, and what only looks like one.
func TestWhatContainersSee(t *testing.T) {
	examine(t, []breakage{
		{"stale copy", func(p *patient) { p.publish(claims(0, "https://issuer")) },
			[]string{"FAIL container"}, "process 200 (app) at " + mountPoint + " has another token in token than the node", "restart the container"},
		{"subPath of this generation", func(p *patient) {
			p.mount("0:50", "/"+p.generation()+"/token", mountPoint+"/token")
		}, []string{"WARN container"}, "has a part of the volume, by a subPath", "without subPath"},
		{"subPath of an earlier generation", func(p *patient) {
			p.mount("0:50", "/..2026_01_01_00_00_00.1/token//deleted", mountPoint+"/token")
		}, []string{"FAIL container"}, "files of an earlier generation", "without subPath"},
		{"directory that was made anew", func(p *patient) {
			p.write(p.of("self", "mountinfo"), "1 0 0:50 / / rw - ext4 /dev/sda rw\n")
			p.mount("0:50", p.path+"//deleted", mountPoint)
		}, []string{"FAIL container"}, "a volume that was removed since", "restart the container"},
		{"tmpfs that was mounted anew", (*patient).detach, []string{"FAIL container"}, "mounted nowhere on the node any more", "restart the container"},
		{"file that the container's user may not read", func(p *patient) { p.runAs(appPID, 4343) },
			[]string{"FAIL container"}, "runs as user 4343, and may not read token: mode 0640", "fsGroup"},
		{"no such file in the container", func(p *patient) {
			p.must(os.Remove(filepath.Join(p.of("200", "root"), mountPoint, "token")))
		}, []string{"FAIL container"}, "has no token", "restart the container"},
		{"link of the container to a file of the node", func(p *patient) {
			p.link(filepath.Join(p.path, "token"), filepath.Join(p.of("200", "root"), mountPoint, "token"))
		}, []string{"FAIL container"}, "has no token", "restart the container"},
		{"no container", func(p *patient) { p.mount("0:99", "/", mountPoint) }, []string{"SKIP container"}, "no process on this node has it mounted", "start the Pod"},
		{"another PID namespace", func(p *patient) {
			p.link("pid:[4026532000]", p.of("self", "ns/pid"))
			p.mount("0:99", "/", mountPoint)
		}, []string{"SKIP container"}, "can't be seen from here",
			"kubectl debug node/node-1 -it --image=ghcr.io/token-projector/projectord:dev --profile=sysadmin -- /projectorctl doctor --root-dir=/host/"},
		{"process without the volume", func(p *patient) { p.PID = daemonPID }, []string{"FAIL container"}, "process 100 has no mount of this volume", "volumeMounts"},
		{"no such process", func(p *patient) { p.PID = 999 }, []string{"SKIP container"}, "process 999 does not exist", "--pid"},
		{"file that the container's user may read by a group", func(p *patient) {
			p.user("Uid:\t1 4343", "Gid:\t1 4343", fmt.Sprintf("Groups:\t1 %d", os.Getgid()))
		}, nil, "", ""},
		{"file that the container's user may read by a capability", func(p *patient) {
			p.user("Uid:\t1 4343", "Gid:\t1 4343", "CapEff:\t0000000000000002")
		}, nil, "", ""},
		{"pipe of the container in the file's place", func(p *patient) {
			path := filepath.Join(p.of("200", "root"), mountPoint, "token")
			p.must(os.Remove(path))
			p.must(syscall.Mkfifo(path, 0644))
		}, []string{"FAIL container"}, "has another token", "restart the container"},
		{"detached volume of another Pod", func(p *patient) {
			p.detach()
			p.write(p.of("200", "cgroup"), "0::/kubepods/pod99999999-2222-3333-4444-555555555555/x\n")
		}, []string{"SKIP container"}, "no process on this node has it mounted", "start the Pod"},
		{"volume that is a directory of a disk", func(p *patient) {
			p.write(p.of("self", "mountinfo"), "1 0 8:1 / / rw - ext4 /dev/sda rw\n2 1 0:5 / /proc rw - proc proc rw\n")
			p.mount("8:1", p.path, mountPoint)
			// Others of the same disk are none of it.
			p.mountAlso("8:1 /var/lib/hosts /etc/hosts", "8:1 "+p.path+"-2 /other", "8:1 "+p.path+"-2//deleted /third")
		}, nil, "", ""},
		{"volume in no layout, that the node's processes have too", func(p *patient) {
			p.move(filepath.Join(p.dir, "elsewhere"))
			p.process(1, "init", "mnt:[3]", 0)
			p.write(p.of("1", "mountinfo"), "1 0 8:1 / / rw - ext4 /dev/sda rw\n2 1 0:50 / "+p.path+" rw - tmpfs projectord rw\n")
		}, nil, "", ""},
	})
}

// detach has the container have a tmpfs that the node has unmounted since.
func (p *patient) detach() {
	p.Helper()
	p.mount("0:49", "/", mountPoint)
	in := filepath.Join(p.of(strconv.Itoa(appPID), "root"), mountPoint)
	p.write(filepath.Join(in, "..2026_01_01_00_00_00.1/token"), "old")
	p.link("..2026_01_01_00_00_00.1", filepath.Join(in, "..data"))
}

// mountAlso adds to what the container has mounted, each as device, root and point.
func (p *patient) mountAlso(mounts ...string) {
	p.Helper()
	path := p.of(strconv.Itoa(appPID), "mountinfo")
	text, err := os.ReadFile(path)
	p.must(err)
	for _, m := range mounts {
		text = fmt.Appendf(text, "9 1 %s ro - ext4 /dev/sda rw\n", m)
	}
	p.write(path, string(text))
}

// user is whom the container runs as, by lines of its status.
func (p *patient) user(lines ...string) {
	p.Helper()
	p.write(p.of(strconv.Itoa(appPID), "status"), strings.Join(lines, "\n")+"\n")
}
