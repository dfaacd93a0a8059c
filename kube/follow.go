package kube

import (
	"context"
	"path/filepath"
	"time"

	"github.com/fsnotify/fsnotify"
)

// pollCredential is how often the credential's files are looked at without a
// sign. A watch may not notice: a file system may lack them, and a mount may
// cover a directory.
const pollCredential = 10 * time.Second

// follow reads the credential again when one of its files may have changed,
// until ctx ends, and tells report what is wrong with it. The last one that
// could be read is used meanwhile.
func (c *connection) follow(ctx context.Context, report func(error)) {
	var signs chan fsnotify.Event
	watcher, err := fsnotify.NewWatcher()
	if err == nil { // without one, the poll notices
		defer func() { _ = watcher.Close() }()
		signs = watcher.Events
	}
	poll := time.NewTicker(pollCredential)
	defer poll.Stop()
	for {
		if watcher != nil {
			watchDirs(watcher, c.current.Load().files)
		}
		report(explain(c.load()))
		select {
		case <-signs:
		case <-poll.C:
		case <-ctx.Done():
			return
		}
	}
}

// watchDirs watches the directories of files: a file that is replaced, by a rename
// or by the swap of a projected volume's ..data, is another file.
func watchDirs(watcher *fsnotify.Watcher, files []string) {
	for _, f := range files {
		// Adding one again that is watched is nothing; what can't be, is polled.
		_ = watcher.Add(filepath.Dir(f))
	}
}
