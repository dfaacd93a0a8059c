package runtimeapi

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"syscall"
	"time"
)

// listen makes the socket in a directory that nobody else can enter until both have
// their final modes. A socket that somebody serves is left to them.
func listen(path string, peers Peers) (net.Listener, error) {
	dir := filepath.Dir(path)
	if err := makeDir(dir); err != nil {
		return nil, err
	}
	if err := removeStale(path); err != nil {
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

// removeStale removes a socket that nobody serves.
func removeStale(path string) error {
	st, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err == nil && st.Mode().Type() != fs.ModeSocket {
		return fmt.Errorf("%s is there and is no socket: remove it, or choose another --socket", path)
	}
	conn, err := net.DialTimeout("unix", path, time.Second)
	if err == nil {
		_ = conn.Close()
		return fmt.Errorf("another process serves %s: stop it, or choose another --socket", path)
	}
	if !errors.Is(err, syscall.ECONNREFUSED) {
		return fmt.Errorf("looking whether somebody serves an old socket: %w", err)
	}
	if err := os.Remove(path); err != nil {
		return fmt.Errorf("removing an old socket: %w", err)
	}
	return nil
}

// Remove removes a socket that nobody serves, and its directory if nothing else is in
// it. It is no error if there is none.
func Remove(path string) error {
	if err := removeStale(path); err != nil {
		return err
	}
	err := os.Remove(filepath.Dir(path))
	if err != nil && !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, syscall.ENOTEMPTY) && !errors.Is(err, syscall.ENOTDIR) {
		return fmt.Errorf("removing the socket's directory: %w", err)
	}
	return nil
}
