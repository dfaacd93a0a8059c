package tokenfile

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"time"
)

// maxSize is more than any server takes in a header.
const maxSize = 64 << 10

// settling is the time between two readings that must be the same.
const settling = 50 * time.Millisecond

// swapTries is how often a file of a volume is opened. A generation may be
// removed between the look at ..data and the file in it.
const swapTries = 3

// What a file holds is in none of them.
var (
	errUnsettled = errors.New("it is being rewritten")
	errEmpty     = errors.New("it is empty")
	errTooLarge  = fmt.Errorf("it has more than %d bytes", maxSize)
	errNotText   = errors.New("it holds what no token does: a gap, a control character, or what is not ASCII")
	errCut       = errors.New("it holds a part of a JSON web token")
)

// settled reads a file until what it holds counts. What is known needs no second
// reading, and neither do the files of a volume.
func settled(ctx context.Context, path, known string) (string, error) {
	if _, volume := places(path); volume {
		text, err := "", error(nil)
		for range swapTries {
			if text, err = read(path); !errors.Is(err, fs.ErrNotExist) {
				break
			}
		}
		return text, explain(path, err)
	}
	text, err := read(path)
	if err != nil || text == known {
		return text, explain(path, err)
	}
	wait := time.NewTimer(settling)
	defer wait.Stop()
	select {
	case <-wait.C:
	case <-ctx.Done():
		return "", ctx.Err()
	}
	second, err := read(path)
	if err == nil && second != text {
		err = errUnsettled
	}
	return second, explain(path, err)
}

func explain(path string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("reading token file %s: %w", path, err)
}

// read reads a file once.
func read(path string) (string, error) {
	// Opening a named pipe would wait for a writer.
	if info, err := os.Stat(path); err != nil {
		return "", reason(err)
	} else if !info.Mode().IsRegular() {
		return "", errors.New("it is no regular file")
	}
	f, err := os.Open(path)
	if err != nil {
		return "", reason(err)
	}
	defer func() { _ = f.Close() }()
	before, err := f.Stat()
	if err != nil {
		return "", reason(err)
	}
	content, err := io.ReadAll(io.LimitReader(f, maxSize+1))
	if err != nil {
		return "", reason(err)
	}
	if len(content) > maxSize {
		return "", errTooLarge
	}
	after, err := f.Stat()
	if err != nil {
		return "", reason(err)
	}
	if before.Size() != after.Size() || after.Size() != int64(len(content)) || !before.ModTime().Equal(after.ModTime()) {
		return "", errUnsettled
	}
	return check(content)
}

// reason is an error without the path, which explain adds.
func reason(err error) error {
	if path, ok := errors.AsType[*fs.PathError](err); ok {
		return fmt.Errorf("%s: %w", path.Op, path.Err)
	}
	return err
}

// check returns the token that content is.
func check(content []byte) (string, error) {
	content = bytes.TrimSpace(content)
	if len(content) == 0 {
		return "", errEmpty
	}
	for _, b := range content {
		if b <= ' ' || b > '~' {
			return "", errNotText
		}
	}
	if text := string(content); whole(text) {
		return text, nil
	}
	return "", errCut
}
