package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/token-projector/token-projector/rotation"
	"github.com/token-projector/token-projector/test/referee"
)

// watchTime is long enough for each token to rotate twice.
const watchTime = 2*maxAge + 3*time.Second

// say prints one indented line.
func say(format string, args ...any) { fmt.Printf("      "+format+"\n", args...) }

// indented prints what is written to it like say.
type indented struct{}

func (indented) Write(p []byte) (int, error) {
	for line := range strings.Lines(string(p)) {
		say("%s", strings.TrimRight(line, "\n"))
	}
	return len(p), nil
}

// showVolumes waits for the files, and shows each volume and whose its token
// is.
func (d *demo) showVolumes(ctx context.Context) error {
	for _, p := range d.pods {
		if len(p.files) == 0 {
			say("%s: no volume", p.Name)
		}
		for _, f := range p.files {
			err := poll(ctx, f.Path, func() (bool, error) {
				_, err := os.Stat(f.Path)
				if errors.Is(err, fs.ErrNotExist) {
					return false, nil
				}
				return err == nil, err
			})
			if err != nil {
				return fmt.Errorf("%w\n%s", err, d.daemon.Log())
			}
			if err := d.showVolume(ctx, p, f); err != nil {
				return err
			}
		}
	}
	return nil
}

func (d *demo) showVolume(ctx context.Context, p *pod, f referee.File) error {
	dir := filepath.Dir(f.Path)
	say("%s: %s", p.Name, dir)
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		line := e.Name()
		if target, err := os.Readlink(filepath.Join(dir, e.Name())); err == nil {
			line += " -> " + target
		}
		if info, err := os.Stat(filepath.Join(dir, e.Name())); err == nil && info.Mode().IsRegular() {
			line = fmt.Sprintf("%-32s %s %5d bytes", line, info.Mode(), info.Size())
		}
		say("    %s", line)
	}
	content, err := os.ReadFile(f.Path)
	if err != nil {
		return err
	}
	if err := referee.Review(ctx, d.client, f, string(content)); err != nil {
		return fmt.Errorf("TokenReview of %s: %w", f.Path, err)
	}
	claims, err := rotation.ParseClaims(string(content))
	if err != nil {
		return err
	}
	say("    TokenReview: %s, bound to Pod %s, for %s, good for %s", f.User, f.PodName, audienceName(f.Audience), claims.Lifetime())
	return nil
}

// watchRotations lets the referee read the files and shows each new token.
func (d *demo) watchRotations(ctx context.Context) error {
	d.table = newLiveTable(d.began)
	d.referee = referee.New(d.client, 100*time.Millisecond, d.table.change)
	for _, p := range d.pods {
		for _, f := range p.files {
			d.table.add(f.Path, p.Name, d.request(p, f))
			d.referee.Watch(f)
		}
	}
	running, stop := context.WithCancel(context.WithoutCancel(ctx))
	var wg sync.WaitGroup
	wg.Go(func() { d.referee.Run(running) })
	d.stopRef = func() { stop(); wg.Wait() }

	say("each token lives an hour or ten minutes; --rotation-max-age makes it due within %s", maxAge)
	show, end := context.WithTimeout(ctx, watchTime) // this is the show; nothing is waited for
	defer end()
	d.table.show(show.Done())
	return ctx.Err()
}

// deletePod deletes the first Pod, and expects its volume to go and its token
// to be refused.
func (d *demo) deletePod(ctx context.Context) error {
	p := d.pods[0]
	var tokens []string
	for _, f := range p.files {
		content, err := os.ReadFile(f.Path)
		if err != nil {
			return err
		}
		tokens = append(tokens, string(content))
		d.referee.Release(f.Path)
		d.table.remove(f.Path)
	}
	if err := d.delete(ctx, p); err != nil {
		return err
	}
	start := time.Now()
	err := poll(ctx, "the volume of the deleted Pod to go", func() (bool, error) {
		_, err := os.Stat(d.podDir(p))
		return errors.Is(err, fs.ErrNotExist), nil
	})
	if err != nil {
		return err
	}
	say("%s deleted; its volume was gone after %.1f s", p.Name, time.Since(start).Seconds())
	for i, f := range p.files {
		err := poll(ctx, "the deleted Pod's token to be refused", func() (bool, error) {
			err := referee.Review(ctx, d.client, f, tokens[i])
			if errors.Is(err, referee.ErrRefused) {
				return true, nil
			}
			return false, err
		})
		if err != nil {
			return err
		}
		say("TokenReview refused its token after %.1f s (the API server caches for up to 10 s)", time.Since(start).Seconds())
	}
	return nil
}

// check turns what was seen into a verdict.
func (d *demo) check(context.Context) error {
	report := d.referee.Report()
	var opted []string
	for _, p := range d.pods[2:] {
		if _, err := os.Stat(d.podDir(p)); !errors.Is(err, fs.ErrNotExist) {
			opted = append(opted, p.Name)
		}
	}
	var idle []string // each file rotates within every maxAge, and was watched for more than two
	for _, p := range d.pods {
		for _, f := range p.files {
			if report.RotationsOf[f.Path] < 2 {
				idle = append(idle, f.Path)
			}
		}
	}
	for _, c := range []struct {
		ok   bool
		what string
	}{
		{report.WrongIdentity == 0, fmt.Sprintf("%d tokens: TokenReview accepted each, with the right user and Pod", report.Tokens)},
		{report.Broken == 0, fmt.Sprintf("%d readings: each was one whole token", report.Readings)},
		{len(idle) == 0, fmt.Sprintf("%d rotations; of each file at least two", report.Rotations)},
		{report.Lapsed == 0, fmt.Sprintf("%d readings of a token older than %s", report.Lapsed, maxAge+late)},
		{len(opted) == 0, "the Pod that opted out has no file"},
	} {
		say("%s  %s", d.table.mark(c.ok), c.what)
		if !c.ok {
			return fmt.Errorf("the check above; details:\n%s", strings.Join(slices.Concat(report.Problems, idle, opted), "\n"))
		}
	}
	return nil
}
