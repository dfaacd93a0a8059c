package runtimeapi

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"syscall"

	"github.com/token-projector/token-projector/internal/socket"
)

// listen makes the socket in a directory that nobody else can enter until both have
// their final modes. A socket that somebody serves is left to them.
func listen(path string, peers Peers) (net.Listener, error) {
	dir := filepath.Dir(path)
	if err := makeDir(dir); err != nil {
		return nil, err
	}
	if err := socket.RemoveStale(path); err != nil {
		return nil, err
	}
	l, err := net.Listen("unix", path)
	if err != nil {
		return nil, fmt.Errorf("listening for runtimes: %w", err)
	}
	dirMode, mode, group := fs.FileMode(0700), fs.FileMode(0600), -1
	if peers.Group != nil {
		dirMode, mode, group = 0750, 0660, int(*peers.Group)
	}
	if len(peers.UIDs) > 0 {
		// They are let in by their uids, which no mode of a directory can say.
		dirMode, mode = dirMode|0011, mode|0066
	}
	err = errors.Join(os.Chown(path, -1, group), os.Chmod(path, mode), os.Chown(dir, -1, group), os.Chmod(dir, dirMode))
	if err != nil {
		_ = l.Close()
		return nil, fmt.Errorf("setting who may use the socket: %w", err)
	}
	return l, nil
}

// makeDir makes the socket's directory, or closes it if an earlier process made it. One
// that others may write to is not taken: they could put a socket of their own there.
func makeDir(dir string) error {
	if err := os.MkdirAll(filepath.Dir(dir), 0755); err != nil {
		return fmt.Errorf("making the parents of the socket's directory: %w", err)
	}
	err := os.Mkdir(dir, 0700)
	if err == nil {
		return nil
	}
	if !errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("making the socket's directory: %w", err)
	}
	st, err := os.Lstat(dir)
	if err != nil {
		return fmt.Errorf("looking at the socket's directory: %w", err)
	}
	sys, ok := st.Sys().(*syscall.Stat_t)
	if !st.IsDir() || st.Mode().Perm()&0022 != 0 || !ok || int(sys.Uid) != os.Geteuid() {
		return fmt.Errorf("%s is no directory that belongs to uid %d and that nobody else can write to: "+
			"give a directory of its own to the socket (--socket)", dir, os.Geteuid())
	}
	return os.Chmod(dir, 0700) //nolint:gosec // it is a directory
}
