package isolate

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/token-projector/token-projector/test/rundir"
)

// Machine is what RunMachine gives a test program that needs a machine of its
// own, as one with a kubelet and containers does.
type Machine struct {
	// Dir is a directory for the program's files.
	Dir string
	// Cgroup is the control group that all others must be made below: it has this
	// path in each hierarchy.
	Cgroup string
}

// fresh are the directories that are empty at first, on a tmpfs: those where a
// kubelet, a container runtime and DaemonSets have their fixed places.
var fresh = []string{"/run", "/var/lib/cni", "/var/lib/containerd", "/var/lib/kubelet", "/var/log"}

// machinePrefix begins the names of the directories, and of the control groups.
const machinePrefix = "token-projector-machine-"

// stageEnv says to a further run of the program what it is, and its directory.
const stageEnv = "TOKEN_PROJECTOR_MACHINE"

// RunMachine runs main with mounts, processes and a network of its own, so that
// none is left behind, however the program ends, and returns its exit code. The
// network is a loopback and nothing else, so prepare, unless it is nil, is run
// before, in the ordinary world, and may put into dir what main needs. It does
// so by running this program again, twice: the first of them is the init of the
// others and reaps what nobody else does. It needs root.
//
// A killed program's directory and control groups are removed by the next one.
func RunMachine(prepare func(dir string) error, main func(Machine) int) int {
	stage, dir, _ := strings.Cut(os.Getenv(stageEnv), ":")
	var code int
	var err error
	switch stage {
	case "":
		code, err = host(prepare)
	case "init":
		code, err = initProcess(dir)
	default:
		return main(Machine{Dir: dir, Cgroup: "/" + filepath.Base(dir)})
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "running on a machine of its own:", err)
		return 1
	}
	return code
}

// host is the program as it was started: it makes and removes what namespaces
// don't hold.
func host(prepare func(dir string) error) (code int, err error) {
	if os.Geteuid() != 0 {
		return 0, errors.New("only root can do this: run it as root")
	}
	dir, unlock, err := rundir.New(machinePrefix, removeCgroups)
	if err != nil {
		return 0, err
	}
	defer unlock()
	defer func() { err = errors.Join(err, removeCgroups(dir), os.RemoveAll(dir)) }()
	if err := makeCgroups(dir); err != nil {
		return 0, err
	}
	for _, point := range fresh {
		// It stays: another run may have mounted there.
		if err := os.MkdirAll(point, 0755); err != nil {
			return 0, fmt.Errorf("making a mount point: %w", err)
		}
	}
	if prepare != nil {
		if err := prepare(dir); err != nil {
			return 0, err
		}
	}
	return again(stageEnv+"=init:"+dir, syscall.SysProcAttr{
		Cloneflags: syscall.CLONE_NEWPID | syscall.CLONE_NEWNET, Unshareflags: syscall.CLONE_NEWNS,
	})
}
