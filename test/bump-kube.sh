#!/usr/bin/env bash
# Changes the version of Kubernetes that the tests run and the module is built
# with. Usage: test/bump-kube.sh 1.37.2
set -euo pipefail
version=${1:?usage: make bump-kube VERSION=1.37.2}
version=${version#v}
staging=v0.${version#1.}
cd "$(dirname "$0")"

# k8s.io/kubernetes requires its own staging modules at v0.0.0, from its tree;
# published, 1.X.Y is v0.X.Y.
mod=$(go mod download -json "k8s.io/kubernetes@v$version" | sed -n 's/.*"GoMod": "\(.*\)".*/\1/p')
modules=$(grep -oE '^\s*k8s\.io/[a-z-]+ v0\.0\.0$' "$mod" | awk '{print $1}' | sort -u)
edits=()
for m in $modules; do
	edits+=("-replace=$m=$m@$staging")
done
(cd .. && go get "k8s.io/api@$staging" "k8s.io/apimachinery@$staging" "k8s.io/client-go@$staging" && go mod tidy)
for m in $(sed -n 's/^\t\(k8s\.io\/[a-z-]*\) => .*/\1/p' go.mod); do
	if ! grep -qx "$m" <<<"$modules"; then
		go mod edit "-dropreplace=$m" # the new version no longer has it
	fi
done
go mod edit "${edits[@]}" "-require=k8s.io/kubernetes@v$version"
go get "k8s.io/api@$staging" "k8s.io/apimachinery@$staging" "k8s.io/client-go@$staging"
go mod tidy
echo "Kubernetes v$version, modules $staging; now run 'make controlplane test'"
