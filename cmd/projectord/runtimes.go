package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"math"
	"os/user"
	"path/filepath"
	"strconv"
	"syscall"
	"time"

	"github.com/token-projector/token-projector/agent"
	"github.com/token-projector/token-projector/internal/runtimeapi"
	"github.com/token-projector/token-projector/projector"
)

// checkSocket checks who may use the socket.
func (o *options) checkSocket() error {
	if o.socket == "" {
		return nil
	}
	if !filepath.IsAbs(o.socket) {
		return fmt.Errorf("invalid --socket %q: want an absolute path", o.socket)
	}
	for _, list := range []struct {
		flag string
		from []uint
		to   *[]uint32
	}{{"socket-allow-uids", o.peerUIDs, &o.peers.UIDs}, {"stream-content-uids", o.contentUIDs, &o.content}} {
		for _, uid := range list.from {
			if uid > math.MaxUint32-1 {
				return fmt.Errorf("invalid --%s %d: no such user can be", list.flag, uid)
			}
			*list.to = append(*list.to, uint32(uid))
		}
	}
	if o.groupText == "" {
		return nil
	}
	gid, err := strconv.ParseUint(o.groupText, 10, 32)
	if err != nil {
		group, lookup := user.LookupGroup(o.groupText)
		if lookup != nil {
			return fmt.Errorf("invalid --socket-group %q: %w; in a container give its number", o.groupText, lookup)
		}
		if gid, err = strconv.ParseUint(group.Gid, 10, 32); err != nil {
			return fmt.Errorf("invalid --socket-group %q: it has the number %q", o.groupText, group.Gid)
		}
	}
	number := uint32(gid)
	o.peers.Group = &number
	return nil
}

// newRuntimes makes the server for runtimes, if there is to be one.
func newRuntimes(o *options, logger *slog.Logger) (*runtimeapi.Server, error) {
	if o.socket == "" {
		return nil, nil //nolint:nilnil // none is wanted
	}
	features := []string{}
	if o.csiSocket != "" {
		features = append(features, "csi")
	}
	if len(o.content) > 0 {
		features = append(features, "stream-content")
	}
	return runtimeapi.New(runtimeapi.Config{
		Socket: o.socket, Version: version(), NodeName: o.nodeName, Root: o.rootDir, Features: features,
		GoneGrace: projector.DefaultGoneGrace, Peers: o.peers, ContentUIDs: o.content, Logger: logger,
	})
}

// serveRuntimes runs the server. A socket that nobody asked for, and that this user may
// not make, is none.
func serveRuntimes(ctx context.Context, o *options, logger *slog.Logger, runtimes *runtimeapi.Server) error {
	err := runtimes.Run(ctx)
	if !o.socketGiven && (errors.Is(err, fs.ErrPermission) || errors.Is(err, syscall.EROFS)) {
		logger.Warn("runtimes are not served: this user can't make the socket; give another --socket, or an empty one", "error", err)
		return nil
	}
	return err
}

// runtimesNode is what runtimes are served with.
func runtimesNode(node *agent.Agent) runtimeapi.Node {
	who := node.Cluster.Choice()
	return runtimeapi.Node{
		Volumes: node.Volumes, Cluster: node.Cluster, Identity: string(who.Identity), User: who.User,
		RotateAll: func(pace time.Duration) int {
			n, _ := node.Tokens.RotateAll(pace)
			return n
		},
	}
}
