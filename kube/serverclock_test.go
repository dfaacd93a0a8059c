package kube

import (
	"net/http"
	"testing"
	"testing/synctest"
	"time"
)

// TestServerClock follows a server that is ahead, and is then set back, to
// about a second.
func TestServerClock(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var c serverClock
		if _, known := c.now(); known {
			t.Fatal("known before any answer")
		}
		jumps := 0
		c.onJump(func() { jumps++ })
		answer := func(ahead, took time.Duration) {
			sent := time.Now()
			time.Sleep(took / 2)
			date := time.Now().Add(ahead).UTC().Format(http.TimeFormat)
			time.Sleep(took / 2)
			c.note(sent, time.Now(), date)
		}
		check := func(ahead, within time.Duration) {
			t.Helper()
			now, known := c.now()
			if off := now.Sub(time.Now().Add(ahead)); !known || off.Abs() > within {
				t.Errorf("off by %v, want at most %v", off, within)
			}
		}
		answer(time.Hour, 100*time.Millisecond)
		check(time.Hour, time.Second)
		for range 20 {
			time.Sleep(730 * time.Millisecond)
			answer(time.Hour, 20*time.Millisecond)
		}
		check(time.Hour, 300*time.Millisecond)
		answer(time.Hour, 8*time.Second) // a slow answer says little, and spoils nothing
		check(time.Hour, 300*time.Millisecond)
		if jumps != 0 {
			t.Errorf("%d jumps of a clock that was not set", jumps)
		}
		answer(-time.Hour, 20*time.Millisecond)
		check(-time.Hour, time.Second)
		if jumps != 1 {
			t.Errorf("%d jumps, want one", jumps)
		}
		for range 100 { // two servers that differ: their changes are not told each time
			answer(time.Hour, time.Millisecond)
			answer(-time.Hour, time.Millisecond)
		}
		if jumps > 2 {
			t.Errorf("%d jumps within moments", jumps)
		}
		time.Sleep(5 * time.Hour)
		check(-time.Hour, time.Second)
		c.note(time.Now(), time.Now(), "not a date")
		check(-time.Hour, time.Second)
		c.forget()
		if _, known := c.now(); known {
			t.Error("known after the machine slept")
		}
	})
}
