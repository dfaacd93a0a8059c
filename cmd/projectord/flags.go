package main

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/pflag"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/labels"

	"github.com/token-projector/token-projector/internal/kubelet"
	"github.com/token-projector/token-projector/internal/names"
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

	identityText, selectorText, mediumText, sizeText, totalText, spreadText string
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
	fs.Float32Var(&o.qps, "kube-api-qps", 100, "requests a second to the API server, on average: for first tokens, for rotations and for everything else each")
	fs.IntVar(&o.burst, "kube-api-burst", 500, "requests to the API server that may be made at once: by default the two of each of 250 Pods at a node's boot")
	fs.StringVar(&o.logFormat, "log-format", logText, "text or json, one line an event, on standard error")
	fs.IntVar(&o.verbosity, "v", 0, "0 logs each change, 1 and more each repeated attempt too")
	fs.BoolVar(&o.version, "version", false, "print the version and exit")
	return fs
}

// parse reads the flags, and for those that are not given their environment
// forms.
func parse(args []string, env func(string) (string, bool)) (*options, error) {
	o := &options{}
	fs := flagSet(o)
	if err := fs.Parse(args); err != nil {
		return nil, err
	}
	if fs.NArg() > 0 {
		return nil, fmt.Errorf("unexpected argument %q", fs.Arg(0))
	}
	var bad error
	fs.VisitAll(func(f *pflag.Flag) {
		if f.Name == "version" || f.Changed || bad != nil {
			return // a version of something is a common thing to have in an environment
		}
		if value, ok := env(envName(f.Name)); ok {
			if err := f.Value.Set(value); err != nil {
				bad = fmt.Errorf("invalid value %q in the environment variable %s: %w", value, envName(f.Name), err)
			}
		}
	})
	if bad != nil || o.version {
		return o, bad
	}
	return o, o.check(env)
}

// envName is PROJECTORD_ROOT_DIR for root-dir.
func envName(flag string) string {
	return names.EnvPrefix + strings.ToUpper(strings.ReplaceAll(flag, "-", "_"))
}

// check turns texts into values and fills in what depends on the machine.
func (o *options) check(env func(string) (string, bool)) error {
	if err := o.checkWho(env); err != nil {
		return err
	}
	for name, dir := range map[string]string{"root-dir": o.rootDir, "kubelet-dir": o.kubeletDir} {
		if !filepath.IsAbs(dir) {
			return fmt.Errorf("invalid --%s %q: want an absolute path", name, dir)
		}
	}
	if !slices.Contains([]string{podsAuto, podsNode, podsNone}, o.podSource) {
		return fmt.Errorf("invalid --pod-source %q: want auto, node or none", o.podSource)
	}
	if _, port, err := net.SplitHostPort(o.httpAddr); err != nil {
		return fmt.Errorf("invalid --http-address %q: want host:port", o.httpAddr)
	} else if _, err := strconv.ParseUint(port, 10, 16); err != nil {
		return fmt.Errorf("invalid --http-address %q: want a port from 0 to 65535", o.httpAddr)
	}
	if o.verbosity < 0 {
		return fmt.Errorf("invalid --v %d: want 0 or more", o.verbosity)
	}
	var err error
	if o.selector, err = labels.Parse(o.selectorText); err != nil {
		return fmt.Errorf("invalid --pod-selector %q: %w", o.selectorText, err)
	}
	switch m := projector.Medium(o.mediumText); m {
	case mediumAuto:
	case projector.MediumTmpfs, projector.MediumDirectory:
		o.medium = m
	default:
		return fmt.Errorf("invalid --volume-medium %q: want auto, tmpfs or directory", o.mediumText)
	}
	for _, limit := range []struct {
		name, text string
		to         *int64
	}{{"volume-size-limit", o.sizeText, &o.sizeLimit}, {"total-size-limit", o.totalText, &o.totalLimit}} {
		size, err := resource.ParseQuantity(limit.text)
		if err != nil || size.Value() < 0 {
			return fmt.Errorf("invalid --%s %q: want a quantity of bytes, such as 32Mi", limit.name, limit.text)
		}
		*limit.to = size.Value()
	}
	o.policy.Spread = rotation.Spread(o.spreadText)
	if err := o.policy.Validate(); err != nil {
		return err
	}
	if o.qps <= 0 || o.burst <= 0 {
		return errors.New("--kube-api-qps and --kube-api-burst: want more than 0")
	}
	if o.logFormat != logText && o.logFormat != logJSON {
		return fmt.Errorf("invalid --log-format %q: want text or json", o.logFormat)
	}
	return o.checkTimes()
}

// checkWho checks as whom requests are made, and for which node.
func (o *options) checkWho(env func(string) (string, bool)) error {
	if _, inPod := env("KUBERNETES_SERVICE_HOST"); o.kubeconfig == "" && !inPod {
		return errors.New("--kubeconfig is required outside of a Pod: the file with the credential of this node")
	}
	if o.identity = kube.Identity(o.identityText); !o.identity.Valid() {
		return fmt.Errorf("invalid --identity %q: want auto, node, impersonate or serviceaccount", o.identityText)
	}
	if o.fallback && o.identity != kube.IdentityAuto {
		return fmt.Errorf("--identity-fallback is for --identity=auto, not %s", o.identity)
	}
	if o.nodeName == "" {
		o.nodeName, _ = env("NODE_NAME")
	}
	if o.nodeName == "" {
		host, err := os.Hostname()
		if err != nil {
			return fmt.Errorf("--node-name is not given and the host has no name: %w", err)
		}
		o.nodeName = strings.ToLower(host)
	}
	return nil
}

// checkTimes checks what is a time.
func (o *options) checkTimes() error {
	if o.policy.MaxAge < 10*time.Second {
		return fmt.Errorf("invalid --rotation-max-age %v: want at least 10s", o.policy.MaxAge)
	}
	if o.accounts > 0 && o.accounts < time.Second {
		return fmt.Errorf("invalid --service-account-check-interval %v: want 0, or at least 1s", o.accounts)
	}
	for name, d := range map[string]time.Duration{
		"generation-grace": o.grace, "mass-removal-hold": o.hold, "service-account-check-interval": o.accounts,
	} {
		if d < 0 {
			return fmt.Errorf("invalid --%s %v: want 0 or more", name, d)
		}
	}
	return nil
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
