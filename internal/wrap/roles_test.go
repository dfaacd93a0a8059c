package wrap_test

import (
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/token-projector/token-projector/internal/wrap"
	"github.com/token-projector/token-projector/tokenfile"
)

// The test's own executable is also what wraps, what is wrapped, and the hook,
// which is called without arguments.
const (
	as       = "as"
	hookMode = "WRAP_HOOK"
	hookDir  = "WRAP_DIR"
	hookTime = "WRAP_TIMEOUT"
)

func TestMain(m *testing.M) {
	switch {
	case len(os.Args) > 2 && os.Args[1] == as:
		os.Exit(roles[os.Args[2]](os.Args[3:]))
	case os.Getenv("TOKEN_PATH") != "" && os.Getenv(hookMode) != "":
		os.Exit(beHook())
	}
	// Ignored in CI's background and under nohup, which what is started here would inherit.
	for _, s := range []os.Signal{syscall.SIGHUP, syscall.SIGINT} {
		if signal.Ignored(s) {
			signal.Notify(make(chan os.Signal, 1), s)
		}
	}
	os.Exit(m.Run())
}

var roles = map[string]func(args []string) int{
	"wrapper": beWrapper,
	"exit":    func(args []string) int { return number(args[0]) },
	"die": func(args []string) int {
		_ = syscall.Kill(os.Getpid(), syscall.Signal(number(args[0])))
		time.Sleep(patience)
		return 1
	},
	"ignore": func(args []string) int { // a signal, as nohup does
		signal.Ignore(syscall.Signal(number(args[0])))
		panic(syscall.Exec(args[1], args[1:], os.Environ()))
	},
	"is-ignored": func(args []string) int {
		if signal.Ignored(syscall.Signal(number(args[0]))) {
			return 42
		}
		return 1
	},
	"echo":    beEcho,
	"parent":  beParent,
	"between": beBetween,
	"linger": func([]string) int {
		time.Sleep(2 * patience)
		return 1
	},
	"orphan": func([]string) int {
		_, _ = os.Stdin.Read(make([]byte, 1)) // until its parent's pipe is closed
		return 7
	},
}

func number(text string) int {
	n, err := strconv.Atoi(text)
	if err != nil {
		panic(err)
	}
	return n
}

// beWrapper runs a program: the token's file, how long to wait for it, what to do,
// and the program. It prints "seen" when there is another token, before anybody is
// told.
func beWrapper(args []string) int {
	wait, err := time.ParseDuration(args[1])
	must(err)
	on, err := wrap.ParseOnRotate(args[2])
	must(err)
	source, err := tokenfile.Open(args[0], tokenfile.WithPoll(50*time.Millisecond))
	must(err)
	limits := wrap.Limits{Timeout: wrap.Hooks.Timeout, Pause: 10 * time.Millisecond, MaxPause: 20 * time.Millisecond}
	if text := os.Getenv(hookTime); text != "" {
		limits.Timeout, err = time.ParseDuration(text)
		must(err)
	}
	go func() {
		for {
			<-source.Changed()
			fmt.Println("seen")
		}
	}()
	p := wrap.Program{
		Path: args[3], Argv: args[3:], TokenPath: args[0], Source: source, OnRotate: on, Wait: wait,
		Limits: limits, Report: func(err error) { fmt.Println("report:", err) },
	}
	code, err := p.Run()
	if err != nil {
		fmt.Println("error:", err)
	}
	return code
}

func must(err error) {
	if err != nil {
		panic(err)
	}
}

// beEcho shows what it was given, and each signal, until it is told to end.
func beEcho([]string) int {
	signals := make(chan os.Signal, 100)
	signal.Notify(signals)
	fmt.Println("given:", os.Args, os.Environ())
	fmt.Println("ready")
	for s := range signals {
		if s == syscall.SIGURG {
			continue // Go's runtime sends it
		}
		fmt.Printf("signal %d.\n", int(s.(syscall.Signal)))
		if s == syscall.SIGTERM {
			return 0
		}
	}
	return 1
}

// beParent leaves an orphan to PID 1, and ends when that was reaped.
func beParent([]string) int {
	out, in, err := os.Pipe()
	must(err)
	between := exec.Command(os.Args[0], as, "between")
	between.Stdin = out
	line, err := between.Output()
	must(err)
	orphan := number(strings.TrimSpace(string(line)))
	must(syscall.Kill(orphan, 0))
	_ = in.Close()
	for syscall.Kill(orphan, 0) == nil { // nothing tells of it but this
		time.Sleep(time.Millisecond)
	}
	fmt.Println("reaped")
	return 3
}

func beBetween([]string) int {
	orphan := exec.Command(os.Args[0], as, "orphan")
	orphan.Stdin = os.Stdin
	must(orphan.Start())
	fmt.Println(orphan.Process.Pid)
	return 0
}

// beHook prints the token's length.
func beHook() int {
	token, err := os.ReadFile(os.Getenv("TOKEN_PATH"))
	must(err)
	fmt.Println("given:", os.Args, os.Environ())
	fmt.Println("hook", len(token), os.Getpid())
	_, _ = io.Copy(io.Discard, os.Stdin) // there is nothing, whatever the wrapper's is
	once := filepath.Join(os.Getenv(hookDir), "once")
	first := unix.Mkdir(once, 0700) == nil
	switch mode := os.Getenv(hookMode); {
	case mode == "fails once" && first:
		return 5
	case mode == "hangs", mode == "hangs once" && first:
		child := exec.Command(os.Args[0], as, "linger")
		child.Stdout = os.Stdout // which nobody sees end while it is there
		must(child.Start())
		never := make(chan os.Signal, 1)
		signal.Notify(never, syscall.SIGTERM)
		<-never
	case mode == "gated":
		_, _ = os.ReadFile(filepath.Join(os.Getenv(hookDir), "gate")) // a pipe
	}
	fmt.Println("hook done")
	return 0
}
