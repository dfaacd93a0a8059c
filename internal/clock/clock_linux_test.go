package clock

import (
	"os"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func TestSince(t *testing.T) {
	before := readings{real: 1000, boot: 100, monotonic: 50}
	for _, tt := range []struct {
		name string
		now  readings
		want Change
	}{
		{"time passed", readings{1010, 110, 60}, Change{}},
		{"set forward", readings{2010, 110, 60}, Change{Set: 1000}},
		{"set back", readings{10, 110, 60}, Change{Set: -1000}},
		{"slept", readings{1510, 610, 60}, Change{Slept: 500}},
		{"slept, and set", readings{1511, 610, 60}, Change{Set: 1, Slept: 500}},
	} {
		if got := tt.now.since(before); got != tt.want {
			t.Errorf("%s: %+v, want %+v", tt.name, got, tt.want)
		}
	}
}

func TestNotable(t *testing.T) {
	for _, tt := range []struct{ in, want Change }{
		{Change{Set: 999 * time.Millisecond, Slept: 325}, Change{}},
		{Change{Set: -time.Hour, Slept: -29}, Change{Set: -time.Hour}},
		{Change{Set: 20, Slept: time.Minute}, Change{Slept: time.Minute}},
	} {
		if got := tt.in.notable(); got != tt.want {
			t.Errorf("notable(%+v) = %+v, want %+v", tt.in, got, tt.want)
		}
	}
}

// TestTimerTellsWhenTheClockIsSet sets the clock to what it is, which the
// kernel tells of all the same. `make faults` sets it to something else.
func TestTimerTellsWhenTheClockIsSet(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root to set the clock")
	}
	timer, err := newTimer()
	if err != nil {
		t.Fatal(err)
	}
	defer timer.close()
	told := make(chan bool)
	go func() {
		for range 2 { // so it is armed again
			told <- timer.wait()
		}
	}()
	for range 2 {
		var ts unix.Timespec
		if err := unix.ClockGettime(unix.CLOCK_REALTIME, &ts); err != nil {
			t.Fatal(err)
		}
		if err := unix.ClockSettime(unix.CLOCK_REALTIME, &ts); err != nil {
			t.Skip("this machine's clock can't be set: ", err)
		}
		select {
		case ok := <-told:
			if !ok {
				t.Fatal("the timer failed")
			}
		case <-time.After(5 * time.Second):
			t.Fatal("the timer did not tell that the clock was set")
		}
	}
}
