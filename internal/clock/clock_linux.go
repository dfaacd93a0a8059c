// Package clock notices that the machine's clock was set, or that the machine
// slept. It changes nothing.
package clock

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// Change is what happened to the clock between two looks at it.
type Change struct {
	// Set is by how much it was set, forward if positive.
	Set time.Duration
	// Slept is how long the machine was suspended.
	Slept time.Duration
}

// threshold is the smallest change that is told. A clock that is slewed, which
// is how it is kept right, changes less between two looks.
const threshold = time.Second

// pollInterval is how often the clocks are looked at without a sign.
const pollInterval = 10 * time.Second

// Watch tells f of each change until ctx ends. The kernel says at once when the
// clock is set and when the machine wakes (timerfd_create(2),
// TFD_TIMER_CANCEL_ON_SET); besides, Watch looks now and then, for it may not.
func Watch(ctx context.Context, f func(Change)) error {
	last, err := read()
	if err != nil {
		return err
	}
	signs := make(chan struct{}, 1)
	if timer, err := newTimer(); err == nil { // without one, the poll notices
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			for timer.wait() {
				select {
				case signs <- struct{}{}:
				default:
				}
			}
		}()
		defer func() { <-ended }()
		defer timer.close()
	}
	poll := time.NewTicker(pollInterval)
	defer poll.Stop()
	for {
		select {
		case <-signs:
		case <-poll.C:
		case <-ctx.Done():
			return nil
		}
		now, err := read()
		if err != nil {
			return err
		}
		if c := now.since(last).notable(); c != (Change{}) {
			f(c)
			last = now // what was smaller adds up
		}
	}
}

// notable is the change without what is below the threshold.
func (c Change) notable() Change {
	if c.Set.Abs() < threshold {
		c.Set = 0
	}
	if c.Slept < threshold {
		c.Slept = 0
	}
	return c
}

// readings are those of the clocks that differ in what they count.
type readings struct {
	real      time.Duration // the time of day, which can be set
	boot      time.Duration // counts sleep, can't be set
	monotonic time.Duration // neither
}

func (r readings) since(before readings) Change {
	boot := r.boot - before.boot
	return Change{
		Set:   r.real - before.real - boot,
		Slept: boot - (r.monotonic - before.monotonic),
	}
}

func read() (r readings, err error) {
	for _, c := range []struct {
		id int32
		to *time.Duration
	}{{unix.CLOCK_REALTIME, &r.real}, {unix.CLOCK_BOOTTIME, &r.boot}, {unix.CLOCK_MONOTONIC, &r.monotonic}} {
		var ts unix.Timespec
		if err := unix.ClockGettime(c.id, &ts); err != nil {
			return r, fmt.Errorf("reading clock %d: %w", c.id, err)
		}
		*c.to = time.Duration(ts.Nano())
	}
	return r, nil
}

// timer is one that never ends but by the clock being set.
type timer struct {
	fd   int
	file *os.File
}

func newTimer() (*timer, error) {
	fd, err := unix.TimerfdCreate(unix.CLOCK_REALTIME, unix.TFD_NONBLOCK|unix.TFD_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("making a timer that ends when the clock is set: %w", err)
	}
	t := &timer{fd: fd, file: os.NewFile(uintptr(fd), "timerfd")}
	return t, t.arm()
}

// far is when the timer would end by itself, in seconds: the year 2255.
const far = 9e9

func (t *timer) arm() error {
	at := unix.ItimerSpec{Value: unix.Timespec{Sec: far}}
	if err := unix.TimerfdSettime(t.fd, unix.TFD_TIMER_ABSTIME|unix.TFD_TIMER_CANCEL_ON_SET, &at, nil); err != nil {
		return fmt.Errorf("setting a timer that ends when the clock is set: %w", err)
	}
	return nil
}

// wait waits for a sign. It returns false when there will be none any more.
func (t *timer) wait() bool {
	_, err := t.file.Read(make([]byte, 8))
	return errors.Is(err, unix.ECANCELED) && t.arm() == nil
}

func (t *timer) close() { _ = t.file.Close() }
