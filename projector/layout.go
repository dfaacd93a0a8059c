package projector

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/token-projector/token-projector/projector/atomicdir"
	"github.com/token-projector/token-projector/projector/payload"
)

// The kubelet's layout below its root directory (pkg/kubelet/volume_host.go).
const (
	podsDir    = "pods"
	volumesDir = "volumes"
	pluginDir  = "kubernetes.io~projected"
)

// path is where a volume lies: where it was claimed, or in the layout.
func (p *Projector) path(key Key) (string, error) {
	if c, claimed := p.claimOf(key); claimed {
		return c.path, nil
	}
	return volumePath(p.cfg.Root, key)
}

// volumePath is where a volume lies. It fails for names that are no single
// element of a path; the API server lets none through.
func volumePath(root string, key Key) (string, error) {
	for _, name := range []string{string(key.PodUID), key.Volume} {
		if name == "." || !filepath.IsLocal(name) || strings.ContainsAny(name, "/\x00") {
			return "", fmt.Errorf("volume %q of Pod UID %q: not a name for a directory", key.Volume, key.PodUID)
		}
	}
	return filepath.Join(root, podsDir, string(key.PodUID), volumesDir, pluginDir, key.Volume), nil
}

// newDir is the writer for a Pod's volume.
func (p *Projector) newDir(path string, pod *corev1.Pod, mountPoints []string) *atomicdir.Dir {
	options := []atomicdir.Option{atomicdir.WithGrace(p.cfg.GenerationGrace), atomicdir.WithMountPoints(mountPoints...)}
	if gid := payload.FSGroup(pod); gid != nil && !p.cfg.KeepOwners {
		options = append(options, atomicdir.WithGroup(int(*gid)))
	}
	return atomicdir.New(path, options...)
}

// onDisk lists the volumes that lie below a root directory, and removes what is
// left of Pods that have none.
func onDisk(root string) ([]Key, error) {
	pods := filepath.Join(root, podsDir)
	uids, err := readDirNames(pods)
	if err != nil {
		return nil, fmt.Errorf("looking for volumes of an earlier process: %w", err)
	}
	var keys []Key
	for _, uid := range uids {
		names, err := readDirNames(filepath.Join(pods, uid, volumesDir, pluginDir))
		if err != nil {
			return nil, fmt.Errorf("looking for volumes of an earlier process: %w", err)
		}
		for _, name := range names {
			keys = append(keys, Key{PodUID: types.UID(uid), Volume: name})
		}
		if len(names) == 0 {
			removeEmpty(root, filepath.Join(pods, uid, volumesDir, pluginDir))
		}
	}
	return keys, nil
}

// readDirNames lists the directories in a directory that may not exist.
func readDirNames(dir string) ([]string, error) {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	var names []string
	for _, e := range entries {
		if e.IsDir() {
			names = append(names, e.Name())
		}
	}
	return names, err
}

// removeIfConfirmed removes a volume whose Pod is not known, once it is certain
// that the Pod is gone: an empty or stale watch never is. again is when to look
// again.
func (p *Projector) removeIfConfirmed(ctx context.Context, key Key) (again time.Time, err error) {
	path, err := p.path(key)
	if err != nil {
		return time.Time{}, err
	}
	if _, err := os.Lstat(path); errors.Is(err, fs.ErrNotExist) {
		p.forget(key, false) // there is nothing to remove, so nothing to confirm
		return time.Time{}, nil
	}
	if wait := p.settling(key); p.cfg.MassRemovalHold > 0 && !wait.IsZero() {
		return wait, errNoVerdict
	}
	confirmed, err := p.cfg.Cluster.ConfirmGone(ctx, p.podRef(key))
	if err != nil {
		return time.Time{}, fmt.Errorf("asking whether the Pod is gone, until then its volume stays: %w", err)
	}
	if !confirmed && p.cfg.Cluster.Pod(key.PodUID) != nil {
		return time.Now(), errNoVerdict // it is known now, if only by what was just asked
	}
	if !confirmed {
		return time.Time{}, errUnseen
	}
	if err := p.hold(key); err != nil {
		return time.Time{}, err
	}
	if until := p.gone(key); time.Now().Before(until) {
		return until, errNoVerdict
	}
	p.abandon(key)
	return time.Time{}, p.remove(key)
}

// errRemoving marks what keeps a volume from being removed.
var errRemoving = errors.New("removing a volume that is no longer wanted")

// remove wipes a volume from disk and memory.
func (p *Projector) remove(key Key) error {
	path, err := p.path(key)
	if err != nil {
		return err
	}
	existed, err := p.medium.release(path)
	if err != nil {
		return fmt.Errorf("%w: %w", errRemoving, err)
	}
	if c, _ := p.claimOf(key); !c.csi { // else the directories above are not ours
		removeEmpty(p.cfg.Root, filepath.Dir(path))
	}
	p.forget(key, existed)
	p.dropClaim(key)
	return nil
}

// removeEmpty removes a directory and those above it, up to that of all Pods,
// as far as they are empty: they go with the last volume in them.
func removeEmpty(root, dir string) {
	for ; dir != filepath.Join(root, podsDir); dir = filepath.Dir(dir) {
		if err := os.Remove(dir); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return
		}
	}
}
