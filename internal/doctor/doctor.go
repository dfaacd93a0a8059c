// Package doctor answers why a Pod has a bad token: it looks at the node, at the
// volume on it, at what the containers see, and asks the API server and projectord.
//
// It changes nothing, and never shows a token.
package doctor

import (
	"context"
	"time"

	"google.golang.org/grpc"

	tokenprojectorv1alpha1 "github.com/token-projector/token-projector/proto/tokenprojector/v1alpha1"
)

// Status is what came of a check.
type Status string

// The statuses.
const (
	OK   Status = "OK"
	Warn Status = "WARN" // it works, and may not for long
	Fail Status = "FAIL" // a cause of bad tokens, or one that was found
	Skip Status = "SKIP" // it could not be looked at
)

// Result is what came of one check.
type Result struct {
	Status Status `json:"status"`
	Check  string `json:"check"`
	// Volume is the directory that it is about; empty for the node.
	Volume string `json:"volume,omitempty"`
	Text   string `json:"text"`
	// Advice is what to do; empty if nothing is to be done.
	Advice string `json:"advice,omitempty"`
}

// Daemon is projectord's API, as far as it is asked.
type Daemon interface {
	GetInfo(context.Context, *tokenprojectorv1alpha1.GetInfoRequest, ...grpc.CallOption) (*tokenprojectorv1alpha1.GetInfoResponse, error)
	ListVolumes(context.Context, *tokenprojectorv1alpha1.ListVolumesRequest, ...grpc.CallOption) (*tokenprojectorv1alpha1.ListVolumesResponse, error)
}

// Doctor says where to look. All fields are needed but those that say otherwise. It
// may be used once.
type Doctor struct {
	// Target is a Pod's UID or a volume's directory; empty for the node only.
	Target string
	// RootDir and KubeletDir are the directories of projectord and of the kubelet.
	RootDir, KubeletDir string
	// Socket is projectord's, for what is said of it, and Daemon who answers there.
	Socket string
	Daemon Daemon
	// HTTPAddress is where projectord says whether it is ready.
	HTTPAddress string
	// Kubeconfig says where the API server is, and as whom to ask for TokenReviews. By
	// default the address and the CA are those of Pods, and no review is asked for.
	Kubeconfig string
	// PID is the one process of a container to look at; 0 is all.
	PID int
	// Node is this node's name, if projectord does not say it.
	Node string
	// Proc is where proc(5) is mounted, and UID whom this process runs as.
	Proc string
	UID  int
	// Now is this node's time.
	Now time.Time

	info    *tokenprojectorv1alpha1.GetInfoResponse // nil: not reached
	volumes []*tokenprojectorv1alpha1.Volume
	results []Result
}

// Run makes all checks, in the order in which they explain each other.
func (d *Doctor) Run(ctx context.Context) []Result {
	d.checkPermissions()
	d.checkDaemon(ctx)
	d.checkReadiness(ctx)
	d.checkKubelet(ctx)
	d.checkLimits()
	found := d.find()
	d.checkClock(ctx, found)
	for _, v := range found {
		d.checkVolume(v)
		d.checkDaemonsView(v)
		d.checkServersView(ctx, v)
		d.checkContainers(v)
	}
	return d.results
}

func (d *Doctor) add(r Result) { d.results = append(d.results, r) }

func (d *Doctor) checkPermissions() {
	if d.UID == 0 {
		d.add(Result{Status: OK, Check: "permissions", Text: "this is root"})
		return
	}
	d.add(Result{Status: Warn, Check: "permissions", Text: "this is not root: other users' files and processes can't be looked at",
		Advice: "run it again as root"})
}
