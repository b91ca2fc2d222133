// Command pulumi-resource-command serves local.Command as the npm package @pulumi/command 1.2.1
// expects it. It is built only where the official plugin cannot be downloaded.
package main

import (
	"context"
	"fmt"
	"os"

	p "github.com/pulumi/pulumi-go-provider"

	"postgres-replica/toolchain/command/local"
)

func main() {
	provider, err := local.Provider()
	if err == nil {
		err = p.RunProvider(context.Background(), "command", local.Version, provider)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
