// Package resources maps upstream's Docker resources to the tokens and property names that the npm
// package @pulumi/docker 5.2.0 uses.
package resources

import (
	"context"
	"runtime"
	"unicode"

	"github.com/pulumi/pulumi-terraform-bridge/v3/pkg/tfbridge"
	shimv2 "github.com/pulumi/pulumi-terraform-bridge/v3/pkg/tfshim/sdk-v2"
	"github.com/pulumi/pulumi/sdk/v3/go/common/tokens"
	"github.com/terraform-providers/terraform-provider-docker/internal/provider"
)

// Version is the plugin version that @pulumi/docker 5.2.0 asks the engine for.
const Version = "5.2.0"

// maxNameLength is the longest physical name that auto-naming may make, in characters.
const maxNameLength = 255

// token gives the SDK's type token, for example docker:index/remoteImage:RemoteImage.
func token(name string) tokens.Type {
	module := string(unicode.ToLower(rune(name[0]))) + name[1:]
	return tokens.Type("docker:index/" + module + ":" + name)
}

// defaultHost is the Docker socket of the platform: what upstream uses when nothing is configured.
func defaultHost(context.Context, tfbridge.ComputeDefaultOptions) (any, error) {
	if runtime.GOOS == "windows" {
		return "npipe:////./pipe/docker_engine", nil
	}
	return "unix:///var/run/docker.sock", nil
}

// Provider describes the bridged provider.
func Provider(ctx context.Context) tfbridge.ProviderInfo {
	keep := func(name string) *tfbridge.SchemaInfo { return &tfbridge.SchemaInfo{Name: name} }
	info := tfbridge.ProviderInfo{
		P:       shimv2.NewProvider(provider.New(Version)()),
		Name:    "docker",
		Version: Version,
		Config: map[string]*tfbridge.SchemaInfo{
			"host":          {Default: &tfbridge.DefaultInfo{EnvVars: []string{"DOCKER_HOST"}, ComputeDefault: defaultHost}},
			"registry_auth": {Name: "registryAuth", MaxItemsOne: tfbridge.False()},
		},
		Resources: map[string]*tfbridge.ResourceInfo{
			// A container's name and ports are taken until the old one is gone.
			"docker_container": {
				Tok:                 token("Container"),
				DeleteBeforeReplace: true,
				Fields: map[string]*tfbridge.SchemaInfo{
					"command":           keep("command"),
					"networks_advanced": keep("networksAdvanced"),
				},
			},
			"docker_image": {
				Tok:    token("RemoteImage"),
				Fields: map[string]*tfbridge.SchemaInfo{"name": keep("name")},
			},
			"docker_network":        {Tok: token("Network")},
			"docker_volume":         {Tok: token("Volume")},
			"docker_plugin":         {Tok: token("Plugin")},
			"docker_registry_image": {Tok: token("RegistryImage")},
			"docker_secret":         {Tok: token("Secret")},
			"docker_config":         {Tok: token("ServiceConfig")},
			"docker_service":        {Tok: token("Service")},
			"docker_tag":            {Tok: token("Tag")},
		},
		IgnoreMappings: []string{"docker_buildx_builder", "docker_compose"},
	}
	info.SetAutonaming(maxNameLength, "-")
	return info
}
