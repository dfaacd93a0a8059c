// Package names holds the names that the project goes by, so that a rename
// is a change in one place. It holds nothing else.
package names

// The names.
const (
	// Daemon is the node daemon's name.
	Daemon = "projectord"
	// CLI is the command line's name.
	CLI = "projectorctl"
	// Domain prefixes annotations and labels.
	Domain = "token-projector.io"
	// CSIDriver is the name of the CSI driver.
	CSIDriver = "csi." + Domain
	// MetricsNamespace prefixes the names of metrics.
	MetricsNamespace = "projectord"
	// EnvPrefix prefixes the environment form of a flag.
	EnvPrefix = "PROJECTORD_"
	// Image is the container image's, as it is built here.
	Image = "ghcr.io/token-projector/projectord:dev"
	// CLIEnvPrefix prefixes the environment form of a flag of CLI.
	CLIEnvPrefix = "PROJECTORCTL_"
	// DefaultSocket is where the API for runtimes is served unless told otherwise.
	DefaultSocket = "/run/projectord/admin/projectord.sock"
	// DefaultRoot is where volumes lie unless told otherwise.
	DefaultRoot = "/var/lib/projectord"
	// DefaultHTTPAddress serves metrics and health unless told otherwise.
	DefaultHTTPAddress = "127.0.0.1:9843"
)
