// Package local is a compact command provider: the resource command:local:Command, which runs a
// program on the machine that runs Pulumi, when the resource is created, updated and deleted.
package local

import (
	"context"

	p "github.com/pulumi/pulumi-go-provider"
	"github.com/pulumi/pulumi-go-provider/infer"
	"github.com/pulumi/pulumi/sdk/v3/go/common/resource"
)

// Version is the plugin version that @pulumi/command 1.2.1 asks the engine for.
const Version = "1.2.1"

// Logging says which of the command's streams are shown as progress while it runs.
// Both are captured as outputs whatever it is.
type Logging string

// The values of Logging. None given means both.
const (
	LogStdout Logging = "stdout"
	LogStderr Logging = "stderr"
	LogBoth   Logging = "stdoutAndStderr"
	LogNone   Logging = "none"
)

// Values names them for the schema. Any other string shows neither stream.
func (Logging) Values() []infer.EnumValue[Logging] {
	return []infer.EnumValue[Logging]{
		{Name: "stdout", Value: LogStdout},
		{Name: "stderr", Value: LogStderr},
		{Name: "stdoutAndStderr", Value: LogBoth},
		{Name: "none", Value: LogNone},
	}
}

// Args are the inputs of a Command. A secret among them stays secret in the state, but does not make
// stdout and stderr secret: as with the official plugin, additionalSecretOutputs does that.
type Args struct {
	Triggers               *[]any             `pulumi:"triggers,optional" provider:"replaceOnChanges"`
	Create                 *string            `pulumi:"create,optional"`
	Update                 *string            `pulumi:"update,optional"`
	Delete                 *string            `pulumi:"delete,optional"`
	Stdin                  *string            `pulumi:"stdin,optional"`
	Logging                *Logging           `pulumi:"logging,optional"`
	Interpreter            *[]string          `pulumi:"interpreter,optional"`
	Dir                    *string            `pulumi:"dir,optional"`
	Environment            *map[string]string `pulumi:"environment,optional"`
	AddPreviousOutputInEnv *bool              `pulumi:"addPreviousOutputInEnv,optional"`
}

// State is what is kept of a Command.
type State struct {
	Args
	Stdout string `pulumi:"stdout"`
	Stderr string `pulumi:"stderr"`
}

// Command is the resource.
type Command struct{}

// Annotate gives the resource the official token; by default it would carry the Go package's name.
func (c *Command) Annotate(a infer.Annotator) { a.SetToken("local", "Command") }

// Provider is the whole provider.
func Provider() (p.Provider, error) {
	return infer.NewProviderBuilder().WithResources(infer.Resource(&Command{})).Build()
}

// Create runs `create`, if there is one.
func (*Command) Create(ctx context.Context, req infer.CreateRequest[Args]) (infer.CreateResponse[State], error) {
	state := State{Args: req.Inputs}
	id, err := resource.NewUniqueHex(req.Name, 8, 0)
	if err == nil && !req.DryRun {
		err = state.run(ctx, req.Inputs.Create)
	}
	return infer.CreateResponse[State]{ID: id, Output: state}, err
}

// Update runs `update`, or `create` where there is no `update`. The command sees what the last one
// printed as PULUMI_COMMAND_STDOUT and PULUMI_COMMAND_STDERR.
func (*Command) Update(ctx context.Context, req infer.UpdateRequest[Args, State]) (infer.UpdateResponse[State], error) {
	state := State{Args: req.Inputs, Stdout: req.State.Stdout, Stderr: req.State.Stderr}
	command := req.Inputs.Update
	if command == nil {
		command = req.Inputs.Create
	}
	if req.DryRun {
		return infer.UpdateResponse[State]{Output: state}, nil
	}
	err := state.run(ctx, command)
	return infer.UpdateResponse[State]{Output: state}, err
}

// Delete runs `delete`, if there was one at the last successful create or update.
func (*Command) Delete(ctx context.Context, req infer.DeleteRequest[State]) (infer.DeleteResponse, error) {
	state := req.State
	return infer.DeleteResponse{}, state.run(ctx, state.Delete)
}
