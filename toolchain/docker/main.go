// Command pulumi-resource-docker serves the upstream Terraform provider kreuzwerker/docker to the
// Pulumi engine, under the tokens and property names of the npm package @pulumi/docker 5.2.0.
//
// It is built only where the official plugin cannot be downloaded. The module path begins with
// upstream's own path, because that is what lets it import upstream's internal packages.
package main

import (
	"context"

	"github.com/pulumi/pulumi-terraform-bridge/v3/pkg/tfbridge"

	"github.com/terraform-providers/terraform-provider-docker/bridge/resources"
)

// schema is what `pulumi package get-schema` would print. The engine and the Node.js SDK never ask
// for it, so only the package's name is given.
const schema = `{"name":"docker","version":"` + resources.Version + `"}`

func main() {
	tfbridge.Main("docker", resources.Version, resources.Provider(context.Background()), []byte(schema))
}
