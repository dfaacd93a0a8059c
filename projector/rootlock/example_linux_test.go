package rootlock_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	"github.com/token-projector/token-projector/projector/rootlock"
)

// A process that serves a root directory, and a second one that must not.
func Example() {
	dir, err := os.MkdirTemp("", "root-*")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer func() { _ = os.RemoveAll(dir) }()
	root := filepath.Join(dir, "projector") // need not be there

	// Wait for one that is about to end, and tell what for.
	ctx, cancel := context.WithTimeout(context.Background(), rootlock.Timeout)
	defer cancel()
	lock, err := rootlock.Acquire(ctx, root, func(err error) { fmt.Println("waiting:", err) })
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println("serving")

	// The second one finds it held, and gives up soon.
	impatient, stop := context.WithTimeout(context.Background(), time.Millisecond)
	defer stop()
	_, err = rootlock.Acquire(impatient, root, func(error) {})
	fmt.Println(mask(err, root))

	if err := lock.Release(); err != nil {
		fmt.Println(err)
	}
	// Output:
	// serving
	// root directory ROOT is already served by process PID (NAME) since TIME: stop that process, or use another --root-dir (context deadline exceeded)
}

// mask takes out of a message what is another each time.
func mask(err error, root string) string {
	holder := regexp.MustCompile(`process \d+ \(.+\) since \S+Z`)
	return holder.ReplaceAllString(strings.ReplaceAll(fmt.Sprint(err), root, "ROOT"), "process PID (NAME) since TIME")
}
