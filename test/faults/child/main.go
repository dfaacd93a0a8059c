// Command child is what the crash tests interrupt. It is traced without its
// threads, so all its work is on the main one.
//
//	child act SCENARIO DIRECTORY       do it, between two marks in the trace
//	child retry SCENARIO DIRECTORY     the same, and again with the same Dir if it fails
//	child recover SCENARIO DIRECTORY   publish and sweep, as the next process
//	child loop DIRECTORY               publish one set after another, for ever
package main

import (
	"errors"
	"fmt"
	"os"
	"runtime"

	"golang.org/x/sys/unix"

	"github.com/token-projector/token-projector/projector/atomicdir"
	"github.com/token-projector/token-projector/test/faults/scenario"
)

func init() { runtime.LockOSThread() }

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
}

func run(args []string) error {
	if args[0] == "loop" {
		return loop(args[1])
	}
	s, err := scenario.Find(args[1])
	if err != nil {
		return err
	}
	d := s.Dir(args[2])
	if args[0] == "recover" {
		if _, err := d.Publish(s.New); err != nil {
			return err
		}
		_, err := atomicdir.New(args[2], atomicdir.WithGrace(0)).Sweep()
		return err
	}
	if s.Before != nil {
		if err := s.Before(d); err != nil {
			return fmt.Errorf("before: %w", err)
		}
	}
	open := descriptors()
	mark("BEGIN")
	err = s.Act(d)
	mark("END")
	if now := descriptors(); now != open {
		return fmt.Errorf("%d descriptors are open, %d were: %w", now, open, errors.Join(errLeak, err))
	}
	if err != nil && args[0] == "retry" {
		if err := s.Act(d); err != nil {
			return fmt.Errorf("the second time too: %w", err)
		}
		return nil
	}
	return err
}

var errLeak = errors.New("a leak")

// descriptors is how many this process has.
func descriptors() int {
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		panic(err)
	}
	return len(entries)
}

// mark leaves a line in the trace.
func mark(name string) { _ = unix.Faccessat(unix.AT_FDCWD, "/MARK-"+name, 0, 0) }

// loop says when it has begun.
func loop(dir string) error {
	d := atomicdir.New(dir, atomicdir.WithGrace(0))
	for n := 0; ; n++ {
		content := []byte(fmt.Sprint(n))
		if _, err := d.Publish([]atomicdir.File{
			{Path: "token", Data: content, Mode: 0600},
			{Path: "dir/file", Data: content, Mode: 0644},
			{Path: fmt.Sprint("name-", n%3), Data: content, Mode: 0644},
		}); err != nil {
			return err
		}
		if n == 0 {
			fmt.Println("began")
		}
	}
}
