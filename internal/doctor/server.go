package doctor

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/token-projector/token-projector/internal/inspect"
	"github.com/token-projector/token-projector/kube"
	"github.com/token-projector/token-projector/rotation"
)

// From here on a difference of clocks is told. The API server bears a minute.
const (
	clockWarn = 5 * time.Second
	clockFail = time.Minute
)

// podCA is where a container has the cluster's CA.
const podCA = "/var/run/secrets/kubernetes.io/serviceaccount/ca.crt"

const giveKubeconfig = "give --kubeconfig: only its address and CA are used for this"

// server finds the API server by the volume's CA, or by that of the Pod that this
// may run in.
func (d *Doctor) server(v *volume) (*kube.Server, error) {
	ca, err := os.ReadFile(podCA)
	if v != nil {
		if own, ownErr := os.ReadFile(filepath.Join(v.path, "ca.crt")); ownErr == nil {
			ca, err = own, nil
		}
	}
	if err != nil {
		ca = nil // FindServer says what is missing
	}
	return kube.FindServer(d.Kubeconfig, ca)
}

// checkClock compares this node's clock with the API server's.
func (d *Doctor) checkClock(ctx context.Context, found []*volume) {
	var v *volume
	if len(found) > 0 {
		v = found[0]
	}
	server, err := d.server(v)
	if err != nil {
		d.add(Result{Status: Skip, Check: "clock", Text: "the API server can't be asked for its time: " + err.Error(), Advice: giveKubeconfig})
		return
	}
	offset, err := server.ClockOffset(ctx)
	if err != nil {
		d.add(Result{Status: Fail, Check: "clock", Text: err.Error(),
			Advice: "see that this node reaches " + server.Address() + "; until then no token is replaced"})
		return
	}
	text := fmt.Sprintf("the API server's clock is %s ahead of this node's", offset.Round(time.Second))
	if offset < 0 {
		text = fmt.Sprintf("the API server's clock is %s behind this node's", -offset.Round(time.Second))
	}
	const advice = "repair time synchronisation: on the node, unless all nodes are as far off"
	switch {
	case offset.Abs() >= clockFail:
		d.add(Result{Status: Fail, Check: "clock", Text: text, Advice: advice})
	case offset.Abs() >= clockWarn:
		d.add(Result{Status: Warn, Check: "clock", Text: text, Advice: advice})
	default:
		d.add(Result{Status: OK, Check: "clock", Text: "this node's is the API server's, to about a second"})
	}
}

// checkServersView asks the API server for what it thinks of each token.
func (d *Doctor) checkServersView(ctx context.Context, v *volume) {
	if v.found == nil {
		return
	}
	server, err := d.server(v)
	_ = v.found.EachToken(func(t *inspect.Token, text string) error {
		if err != nil {
			d.add(v.result(Skip, "server", "the API server can't be asked: "+err.Error(), giveKubeconfig))
		} else {
			d.add(d.askServer(ctx, server, v, t, rotation.NewToken(text)))
		}
		return nil
	})
}

// askServer asks with the token itself, which the API server takes for its own
// audiences only; for others it takes a TokenReview by somebody who may ask for one.
func (d *Doctor) askServer(ctx context.Context, server *kube.Server, v *volume, t *inspect.Token, token rotation.Token) Result {
	user, accepted, err := server.WhoIs(ctx, token)
	switch {
	case err != nil:
		return v.result(Fail, "server", err.Error(), "see that this node reaches "+server.Address())
	case accepted:
		return v.result(OK, "server", "the API server accepts the token as "+user, "")
	}
	// Its own audiences are its issuer, unless it is told otherwise.
	own := slices.Contains(t.Audiences, t.Issuer)
	why := "for no review was asked"
	if d.Kubeconfig != "" {
		review, err := kube.ReviewToken(ctx, d.Kubeconfig, token, t.Audiences)
		switch {
		case err != nil:
			why = err.Error()
		case review.Authenticated:
			return v.result(OK, "server", fmt.Sprintf("the API server accepts the token for %q as %s", review.Audiences, review.User.Username), "")
		default:
			return v.result(Fail, "server", "the API server refuses the token: "+review.Error, adviceOnRefused(t))
		}
	}
	if own {
		return v.result(Fail, "server", "the API server refuses the token", adviceOnRefused(t))
	}
	return v.result(Skip, "server", fmt.Sprintf("the token is for %q, of which only a TokenReview tells: %s", t.Audiences, why),
		"give --kubeconfig of a user who may create tokenreviews")
}

// adviceOnRefused names what the token is bound to: the end of any of it ends the token.
func adviceOnRefused(t *inspect.Token) string {
	if t.Expired {
		return "see why it was not replaced: the lines above"
	}
	account := fmt.Sprintf("kubectl -n %s get serviceaccount %s -o jsonpath={.metadata.uid} must say %s",
		t.Namespace, t.ServiceAccount.Name, t.ServiceAccount.UID)
	if t.Pod == nil {
		return account
	}
	return fmt.Sprintf("see that what it is bound to still exists: kubectl -n %s get pod %s -o jsonpath={.metadata.uid} must say %s, and %s",
		t.Namespace, t.Pod.Name, t.Pod.UID, account)
}
