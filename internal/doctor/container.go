package doctor

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/token-projector/token-projector/internal/names"
)

// checkContainers looks at the volume as the processes that have it mounted do.
func (d *Doctor) checkContainers(v *volume) {
	if v.found == nil {
		return
	}
	p := procfs(d.Proc)
	own, _ := p.mounts("self")
	device, root := locate(own, v.path)
	view := view{d: d, v: v, p: p, own: own, device: device, root: root}
	pids, hidden, seen := p.pids(), 0, map[string]bool{p.mountNamespace("self"): true}
	if d.PID != 0 {
		pids, seen = []int{d.PID}, map[string]bool{}
	}
	found := false
	for _, pid := range pids {
		process := strconv.Itoa(pid)
		ns := p.mountNamespace(process)
		if ns != "" && seen[ns] {
			continue // as another process of its container
		}
		mounts, err := p.mounts(process)
		if err != nil {
			if d.PID != 0 || errors.Is(err, fs.ErrPermission) { // else it ended
				hidden++
			}
			continue
		}
		seen[ns] = true
		for _, m := range mounts {
			if r, about := view.judge(pid, m); about {
				d.add(r)
				found = true
			}
		}
	}
	if !found {
		d.add(d.noContainer(v, hidden))
	}
}

// noContainer says why there was nothing to look at.
func (d *Doctor) noContainer(v *volume, hidden int) Result {
	switch {
	case d.PID != 0 && hidden > 0:
		return v.result(Skip, "container", fmt.Sprintf("process %d does not exist, or can't be looked at by this user", d.PID), "correct --pid, or run it again as root")
	case d.PID != 0:
		return v.result(Fail, "container", fmt.Sprintf("process %d has no mount of this volume", d.PID), "see the volumeMounts of its container")
	case !procfs(d.Proc).ofHost():
		return v.result(Skip, "container", "the node's processes can't be seen from here", d.elsewhere())
	case hidden > 0:
		return v.result(Skip, "container", fmt.Sprintf("of the processes that can be looked at none has it mounted; %d can't", hidden), "run it again as root")
	}
	return v.result(Skip, "container", "no process on this node has it mounted",
		"start the Pod; in a virtual machine look with projectorctl inspect")
}

// elsewhere is how to look from the node itself.
func (d *Doctor) elsewhere() string {
	host := func(path string) string { return filepath.Join("/host", path) }
	target := d.Target
	if strings.ContainsRune(target, '/') {
		target = host(target)
	}
	return strings.TrimSpace(fmt.Sprintf("look from the node itself: kubectl debug node/%s -it --image=%s --profile=sysadmin -- /%s doctor --root-dir=%s --kubelet-dir=%s --socket=%s %s",
		d.Node, names.Image, names.CLI, host(d.RootDir), host(d.KubeletDir), host(d.Socket), target))
}
