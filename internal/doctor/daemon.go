package doctor

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/token-projector/token-projector/internal/kubelet"
	tokenprojectorv1alpha1 "github.com/token-projector/token-projector/proto/tokenprojector/v1alpha1"
)

// askTimeout bounds each question to projectord, which answers from memory.
const askTimeout = 5 * time.Second

// maxAnswer is more than any answer of /readyz.
const maxAnswer = 64 << 10

// checkDaemon asks projectord who it is and what volumes it has.
func (d *Doctor) checkDaemon(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	info, err := d.Daemon.GetInfo(ctx, &tokenprojectorv1alpha1.GetInfoRequest{})
	var volumes []*tokenprojectorv1alpha1.Volume
	if err == nil {
		volumes, err = d.allVolumes(ctx)
	}
	if err != nil {
		advice := "see that projectord runs, and give its socket with --socket"
		if status.Code(err) == codes.PermissionDenied {
			advice = "run it again as root"
		}
		// The cause is at the end of what gRPC wraps around it.
		message := status.Convert(err).Message()
		message = message[strings.LastIndex(message, ": ")+1:]
		d.add(Result{Status: Skip, Check: "daemon",
			Text: fmt.Sprintf("projectord does not answer at %s: %s", d.Socket, strings.Trim(message, ` "`)), Advice: advice})
		return
	}
	d.info, d.volumes = info, volumes
	if info.GetNode() != "" {
		d.Node = info.GetNode()
	}
	text := fmt.Sprintf("projectord %s serves node %s", info.GetVersion(), info.GetNode())
	if info.GetUser() == "" {
		d.add(Result{Status: Fail, Check: "daemon", Text: text + ", and has not reached the API server",
			Advice: "see its log for what the API server answers, and correct its credential or the network"})
		return
	}
	d.add(Result{Status: OK, Check: "daemon", Text: fmt.Sprintf("%s as %s, with %d volumes", text, info.GetUser(), len(d.volumes))})
	if d.Target != "" {
		return
	}
	for _, v := range d.volumes {
		if r := viewOf(v); r.Status != OK {
			r.Text = fmt.Sprintf("%s of Pod %s/%s: %s", v.GetId().GetVolumeName(), v.GetPod().GetNamespace(), v.GetPod().GetName(), r.Text)
			d.add(r)
		}
	}
}

// allVolumes are those of all pages.
func (d *Doctor) allVolumes(ctx context.Context) (all []*tokenprojectorv1alpha1.Volume, err error) {
	request := &tokenprojectorv1alpha1.ListVolumesRequest{}
	for {
		page, err := d.Daemon.ListVolumes(ctx, request)
		if err != nil {
			return nil, err
		}
		all = append(all, page.GetVolumes()...)
		if request.PageToken = page.GetNextPageToken(); request.PageToken == "" {
			return all, nil
		}
	}
}

// viewOf is what projectord says of a volume.
func viewOf(v *tokenprojectorv1alpha1.Volume) Result {
	r := Result{Check: "daemon"}
	phase := strings.ToLower(strings.TrimPrefix(v.GetPhase().String(), "PHASE_"))
	const advice = "correct what the error says; it is tried again by itself"
	switch {
	case v.GetLastError() != "":
		r.Status, r.Text, r.Advice = Fail, fmt.Sprintf("projectord has it as %s: %s", phase, v.GetLastError()), advice
	case v.GetPhase() == tokenprojectorv1alpha1.Phase_PHASE_DEGRADED:
		r.Status, r.Text, r.Advice = Fail, "projectord has it as degraded", "see its log for the source that fails"
	case v.GetPhase() == tokenprojectorv1alpha1.Phase_PHASE_PENDING:
		r.Status, r.Text, r.Advice = Warn, "projectord has not published it yet", "look again in a moment, then at its log"
	case v.GetPhase() == tokenprojectorv1alpha1.Phase_PHASE_TERMINATING:
		r.Status, r.Text, r.Advice = Warn, "its Pod ends, or is gone: tokens are soon refused", "use the Pod's successor"
	default:
		r.Status, r.Text = OK, "projectord has it as "+phase
	}
	return r
}

// checkDaemonsView says what projectord says of the volume.
func (d *Doctor) checkDaemonsView(v *volume) {
	if d.info == nil {
		return // which has its own line
	}
	i := slices.IndexFunc(d.volumes, func(o *tokenprojectorv1alpha1.Volume) bool {
		return o.GetHostPath() == v.path || v.ours && o.GetId().GetPodUid() == v.pod && o.GetId().GetVolumeName() == v.name
	})
	switch {
	case i >= 0:
		r := viewOf(d.volumes[i])
		r.Volume = v.path
		d.add(r)
	case v.ours:
		d.add(v.result(Fail, "daemon", "projectord does not know it: nobody replaces its tokens",
			"see that the Pod still exists and that this is projectord's --root-dir, and at its log"))
	default:
		d.add(v.result(OK, "daemon", "the kubelet keeps it, not projectord", ""))
	}
}

// checkUnpublished says what projectord says of a Pod that has no volume yet.
func (d *Doctor) checkUnpublished() {
	for _, v := range d.volumes {
		if v.GetId().GetPodUid() == d.Target {
			r := viewOf(v)
			r.Text = v.GetId().GetVolumeName() + ": " + r.Text
			d.add(r)
		}
	}
}

// checkReadiness asks for what projectord waits for.
func (d *Doctor) checkReadiness(ctx context.Context) {
	unreachable := func(err error) {
		d.add(Result{Status: Skip, Check: "readiness", Text: "projectord can't be asked whether it is ready: " + err.Error(),
			Advice: "see that projectord runs, and give its address with --http-address"})
	}
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+d.HTTPAddress+"/readyz", nil)
	if err != nil {
		unreachable(err)
		return
	}
	// It is on this node: no proxy is asked.
	answer, err := (&http.Transport{DisableKeepAlives: true}).RoundTrip(request)
	if err != nil {
		unreachable(err)
		return
	}
	defer func() { _ = answer.Body.Close() }()
	body, err := io.ReadAll(io.LimitReader(answer.Body, maxAnswer))
	switch {
	case err != nil:
		unreachable(err)
	case answer.StatusCode == http.StatusOK:
		d.add(Result{Status: OK, Check: "readiness", Text: "projectord is ready"})
	default:
		d.add(Result{Status: Fail, Check: "readiness",
			Text:   "projectord is not ready: " + strings.Join(strings.Split(strings.TrimSpace(string(body)), "\n"), "; "),
			Advice: "look it up in docs/operating.md, \"What it says when something is wrong\""})
	}
}

// checkKubelet finds a kubelet that serves the Pods, so that projectord leaves them
// alone unless it is told which to serve.
func (d *Doctor) checkKubelet(ctx context.Context) {
	evidence := kubelet.Evidence(ctx, d.KubeletDir)
	switch {
	case evidence == "":
		d.add(Result{Status: OK, Check: "kubelet", Text: "none serves this node"})
	case d.info == nil:
		d.add(Result{Status: Skip, Check: "kubelet", Text: "a kubelet serves this node (" + evidence + "); what projectord serves beside it is not known",
			Advice: "see that projectord runs with --pod-selector, or as a CSI driver"})
	case len(d.volumes) == 0 && !slices.Contains(d.info.GetFeatures(), "csi"):
		d.add(Result{Status: Warn, Check: "kubelet", Text: "a kubelet serves this node (" + evidence + "), and nothing is projected beside it",
			Advice: "select the Pods that projectord is to serve with --pod-selector"})
	default:
		d.add(Result{Status: OK, Check: "kubelet", Text: fmt.Sprintf("a kubelet serves this node, and projectord %d volumes beside it", len(d.volumes))})
	}
}
