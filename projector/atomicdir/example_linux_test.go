package atomicdir_test

import (
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/token-projector/token-projector/projector/atomicdir"
)

// Two files that readers see change together.
func Example() {
	volume, err := os.MkdirTemp("", "volume-*") // New makes no directory
	if err != nil {
		fmt.Println(err)
		return
	}
	defer func() { _ = os.RemoveAll(volume) }()

	dir := atomicdir.New(volume)
	files := []atomicdir.File{
		{Path: "tls/cert.pem", Data: []byte("certificate 1"), Mode: 0644},
		{Path: "tls/key.pem", Data: []byte("key 1"), Mode: 0600},
	}
	first, err := dir.Publish(files)
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println("changed:", first.Changed)

	// Nothing is written if it is all there, so publish as often as you like.
	again, err := dir.Publish(files)
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println("changed:", again.Changed, "same generation:", again.Generation == first.Generation)

	set, err := dir.Read()
	if err != nil {
		fmt.Println(err)
		return
	}
	for _, file := range set.Files {
		fmt.Println(file) // without what is in it
	}

	// Programs open the path that they know.
	text, err := os.ReadFile(filepath.Join(volume, "tls", "cert.pem"))
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(string(text))
	// Output:
	// changed: true
	// changed: false same generation: true
	// tls/cert.pem -rw-r--r-- 13 bytes
	// tls/key.pem -rw------- 5 bytes
	// certificate 1
}

// An old set stays for its grace, for readers that are in the middle of it.
func ExampleDir_Sweep() {
	volume, err := os.MkdirTemp("", "volume-*")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer func() { _ = os.RemoveAll(volume) }()

	dir := atomicdir.New(volume, atomicdir.WithGrace(time.Hour))
	var result atomicdir.Result
	for _, text := range []string{"one", "two"} {
		result, err = dir.Publish([]atomicdir.File{{Path: "token", Data: []byte(text), Mode: 0600}})
		if err != nil {
			fmt.Println(err)
			return
		}
	}
	fmt.Println("something to sweep:", !result.SweepAt.IsZero())

	// Nothing is removed by itself. At SweepAt call Sweep, or Publish; here it is
	// too early, so Sweep says again when to come.
	next, err := dir.Sweep()
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println("still something to sweep:", !next.IsZero())
	// Output:
	// something to sweep: true
	// still something to sweep: true
}

// Paths that would leave the volume, or that two files have, are refused before anything is written.
func ExampleCheck() {
	fmt.Println(atomicdir.Check([]atomicdir.File{{Path: "../../etc/passwd", Mode: 0644}}))
	fmt.Println(atomicdir.Check([]atomicdir.File{{Path: "a", Mode: 0644}, {Path: "./a", Mode: 0644}}))
	// Output:
	// path "../../etc/passwd": contains the element ".."
	// path "a": two files have it
}
