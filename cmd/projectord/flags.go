package main

import (
	"fmt"
	"time"

	"github.com/spf13/pflag"
	"k8s.io/apimachinery/pkg/labels"

	"github.com/token-projector/token-projector/agent"
	"github.com/token-projector/token-projector/internal/kubelet"
	"github.com/token-projector/token-projector/internal/names"
	"github.com/token-projector/token-projector/internal/runtimeapi"
	"github.com/token-projector/token-projector/kube"
	"github.com/token-projector/token-projector/projector"
	"github.com/token-projector/token-projector/projector/atomicdir"
	"github.com/token-projector/token-projector/rotation"
)

// options are the flags, checked.
type options struct {
	kubeconfig string
	identity   kube.Identity
	fallback   bool
	nodeName   string
	rootDir    string
	kubeletDir string
	podSource  string
	namespaces []string
	csiSocket  string // "": no CSI driver
	csiObjects kube.OwnObjects
	socket     string // "": runtimes are not served
	peers      runtimeapi.Peers
	content    []uint32 // users who may have content streamed
	selector   labels.Selector
	medium     projector.Medium // "": tmpfs where it can be mounted
	sizeLimit  int64
	totalLimit int64
	httpAddr   string
	policy     rotation.Policy
	grace      time.Duration
	hold       time.Duration
	accounts   time.Duration
	qps        float32
	burst      int
	logFormat  string
	verbosity  int
	version    bool

	// socketGiven is for a default that this user may not be able to use.
	socketGiven           bool
	groupText             string
	peerUIDs, contentUIDs []uint

	identityText, endpointText, objectsText, selectorText, mediumText, sizeText, totalText, spreadText string
}

// Values of flags.
const (
	mediumAuto = "auto"
	logText    = "text"
	logJSON    = "json"
)

func flagSet(o *options) *pflag.FlagSet {
	fs := pflag.NewFlagSet(names.Daemon, pflag.ContinueOnError)
	fs.Usage = func() {}
	fs.SortFlags = false
	d := rotation.DefaultPolicy()
	fs.StringVar(&o.kubeconfig, "kubeconfig", "", "file with the credential to use (default in a Pod: its ServiceAccount's token)")
	fs.StringVar(&o.identityText, "identity", string(kube.IdentityAuto), "as whom to make requests: node, with the credential of user system:node:<node name>; impersonate, as the own node by a Pod's ServiceAccount, from Kubernetes 1.36 on; serviceaccount, with that ServiceAccount's own rights; or auto for node or impersonate, whichever the credential is for")
	fs.BoolVar(&o.fallback, "identity-fallback", false, "let --identity=auto use the ServiceAccount's own rights where the API server refuses impersonation")
	fs.StringVar(&o.nodeName, "node-name", "", "node whose Pods are served (default: $NODE_NAME, else the host's name)")
	fs.StringVar(&o.rootDir, "root-dir", names.DefaultRoot, "directory below which volumes lie, as pods/<pod UID>/volumes/kubernetes.io~projected/<volume>")
	fs.StringVar(&o.kubeletDir, "kubelet-dir", kubelet.DefaultDir, "the --root-dir of the kubelet, if this node has one")
	fs.StringVar(&o.podSource, "pod-source", podsAuto, "whose projected volumes to write: node, of all Pods of the node; none; or auto for node unless a kubelet serves them, and then only of those that --pod-selector selects")
	fs.StringVar(&o.selectorText, "pod-selector", "", "label selector of the Pods that get volumes, such as app=web,tier!=db (default: all)")
	fs.StringSliceVar(&o.namespaces, "namespaces", nil, "namespaces whose Pods get volumes (default: all)")
	fs.StringVar(&o.socket, "socket", names.DefaultSocket, "path of the socket that serves runtimes, in a directory of its own; empty for none")
	fs.StringVar(&o.groupText, "socket-group", "", "group, by name or number, whose processes may use the socket too: those that have it as their effective group")
	fs.UintSliceVar(&o.peerUIDs, "socket-allow-uids", nil, "users, by number, who may use the socket besides root")
	fs.BoolVar(&o.peers.OwnNamespaces, "socket-own-namespaces", false, "refuse callers in another user, PID or mount namespace, such as containers; for a projectord that is in none itself, on Linux 6.5 or newer")
	fs.UintSliceVar(&o.contentUIDs, "stream-content-uids", nil, "users, by number, who may have the content of volumes streamed to them by the socket, tokens too (default: nobody)")
	fs.StringVar(&o.endpointText, "csi-endpoint", "", "unix:///path of the socket of the CSI driver "+names.CSIDriver+", the same for the kubelet as for this process; empty is no CSI driver")
	fs.StringVar(&o.objectsText, "csi-objects", string(kube.OwnRootCA), "which ConfigMaps and Secrets CSI volumes may have as sources: root-ca, kube-root-ca.crt only; or all. They are read as the ServiceAccount itself, because its node may not")
	fs.StringVar(&o.mediumText, "volume-medium", mediumAuto, "what volumes are made of: tmpfs, directory, or auto for tmpfs where it can be mounted")
	fs.StringVar(&o.sizeText, "volume-size-limit", "32Mi", "size limit of each volume, as a quantity of bytes with room for two sets of its files; 0 is half of the machine's memory for a tmpfs")
	fs.StringVar(&o.totalText, "total-size-limit", "0", "size limit of all volumes together, as a quantity of bytes; 0 is none")
	fs.StringVar(&o.httpAddr, "http-address", names.DefaultHTTPAddress, "host:port that serves /livez, /readyz and /metrics")
	fs.Float64Var(&o.policy.Fraction, "rotation-fraction", d.Fraction, "part of its lifetime after which a token is rotated at the latest, from 0.1 to less than 1")
	fs.DurationVar(&o.policy.MaxAge, "rotation-max-age", d.MaxAge, "age at which a token is rotated at the latest, whatever its lifetime")
	fs.DurationVar(&o.grace, "generation-grace", atomicdir.DefaultGrace, "how long an old set of files stays for readers in the middle of it; 0 removes it at once, as the kubelet does")
	fs.DurationVar(&o.hold, "mass-removal-hold", projector.DefaultMassRemovalHold, "how long volumes stay when the Pods of many are suddenly missing without having been deleted, as with a restored API server; 0 removes them at once")
	fs.DurationVar(&o.accounts, "service-account-check-interval", 10*time.Minute, "how often each ServiceAccount is looked up, to replace the tokens of one that was deleted and created again; 0 never")
	fs.StringVar(&o.spreadText, "rotation-spread", string(d.Spread), "how rotations are laid out in time: phase, evenly; or none, each as late as it may be")
	fs.Float32Var(&o.qps, "kube-api-qps", agent.DefaultQPS, "requests a second to the API server, on average: for first tokens, for rotations and for everything else each")
	fs.IntVar(&o.burst, "kube-api-burst", agent.DefaultBurst, "requests to the API server that may be made at once: by default the two of each of 250 Pods at a node's boot")
	fs.StringVar(&o.logFormat, "log-format", logText, "text or json, one line an event, on standard error")
	fs.IntVar(&o.verbosity, "v", 0, "0 logs each change, 1 and more each repeated attempt too")
	fs.BoolVar(&o.version, "version", false, "print the version and exit")
	return fs
}

// usage is the text of --help.
func usage() string {
	return fmt.Sprintf(`%s keeps the projected service-account token volumes of one node's Pods:
it requests the tokens, writes the volumes, rotates each token before it
lapses, and removes what is no longer wanted.

Usage:
  %s [flags]

Each flag has an environment form, %sROOT_DIR for --root-dir; a flag
that is given wins. SIGTERM stops it; volumes stay for the next start.

Flags:
%s`, names.Daemon, names.Daemon, names.EnvPrefix, flagSet(&options{}).FlagUsagesWrapped(100))
}
