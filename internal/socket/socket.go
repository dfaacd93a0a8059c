// Package socket takes away what a process that ended left of a unix socket. It serves
// none.
package socket

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

// RemoveStale removes a socket that nobody serves. It is no error if there is none.
func RemoveStale(path string) error {
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
	if err := RemoveStale(path); err != nil {
		return err
	}
	err := os.Remove(filepath.Dir(path))
	if err != nil && !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, syscall.ENOTEMPTY) && !errors.Is(err, syscall.ENOTDIR) {
		return fmt.Errorf("removing the socket's directory: %w", err)
	}
	return nil
}
