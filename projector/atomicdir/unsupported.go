//go:build !linux

package atomicdir

import (
	"errors"
	"fmt"
	"time"
)

var errUnsupported = fmt.Errorf("publishing a volume needs Linux: %w", errors.ErrUnsupported)

// Publish is not supported on this system.
func (d *Dir) Publish([]File) (Result, error) { return Result{}, errUnsupported }

// Sweep is not supported on this system.
func (d *Dir) Sweep() (time.Time, error) { return time.Time{}, errUnsupported }

// Read is not supported on this system.
func (d *Dir) Read() (Set, error) { return Set{}, errUnsupported }

// Wipe is not supported on this system.
func (d *Dir) Wipe() error { return errUnsupported }
