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

	"github.com/token-projector/token-projector/internal/names"
	"github.com/token-projector/token-projector/kube"
	"github.com/token-projector/token-projector/projector"
	"github.com/token-projector/token-projector/rotation"
)

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
	_, fromEnv := env(envName("socket"))
	o.socketGiven = fs.Changed("socket") || fromEnv
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
	if err := errors.Join(o.checkCSI(), o.checkSocket()); err != nil {
		return err
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

// checkCSI checks what the CSI driver needs.
func (o *options) checkCSI() error {
	if o.objectsText != string(kube.OwnRootCA) && o.objectsText != string(kube.OwnAll) {
		return fmt.Errorf("invalid --csi-objects %q: want root-ca or all", o.objectsText)
	}
	if o.endpointText == "" {
		return nil
	}
	o.csiObjects = kube.OwnObjects(o.objectsText)
	if o.csiSocket, _ = strings.CutPrefix(o.endpointText, "unix://"); !filepath.IsAbs(o.csiSocket) || o.csiSocket == o.endpointText {
		return fmt.Errorf("invalid --csi-endpoint %q: want unix:///path", o.endpointText)
	}
	if o.mediumText == string(projector.MediumDirectory) {
		return errors.New("--csi-endpoint needs --volume-medium=tmpfs: a kubelet expects a mount")
	}
	return nil
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
