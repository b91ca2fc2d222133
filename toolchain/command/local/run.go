package local

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync"

	p "github.com/pulumi/pulumi-go-provider"
)

// lockedBuffer takes stdout and stderr as they come, in one piece, for error messages.
type lockedBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *lockedBuffer) Write(data []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(data)
}

func (a *Args) logs(stream Logging) bool {
	return a.Logging == nil || *a.Logging == LogBoth || *a.Logging == stream
}

// argv is the program and its arguments: the interpreter, then the command as one word.
func (a *Args) argv(command string) []string {
	switch {
	case a.Interpreter != nil && len(*a.Interpreter) > 0:
		return append(append([]string{}, *a.Interpreter...), command)
	case runtime.GOOS == "windows":
		return []string{"cmd", "/C", command}
	default:
		return []string{"/bin/sh", "-c", command}
	}
}

func (s *State) environ() []string {
	env := os.Environ()
	if s.Environment != nil {
		for name, value := range *s.Environment {
			env = append(env, name+"="+value)
		}
	}
	if s.AddPreviousOutputInEnv == nil || *s.AddPreviousOutputInEnv {
		if s.Stdout != "" {
			env = append(env, "PULUMI_COMMAND_STDOUT="+s.Stdout)
		}
		if s.Stderr != "" {
			env = append(env, "PULUMI_COMMAND_STDERR="+s.Stderr)
		}
	}
	return env
}

// run executes command, if it is not nil, and keeps what it printed, without the last newline.
// The state is untouched when the command fails; the error holds the command and all it printed.
func (s *State) run(ctx context.Context, command *string) error {
	if command == nil {
		return nil
	}
	argv := s.argv(*command)
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	cmd.Env = s.environ()
	if s.Dir != nil {
		cmd.Dir = *s.Dir
	}
	if s.Stdin != nil && *s.Stdin != "" {
		cmd.Stdin = strings.NewReader(*s.Stdin)
	}

	var stdout, stderr bytes.Buffer
	var both lockedBuffer
	progress, progressIn := io.Pipe()
	cmd.Stdout = s.tee(LogStdout, &stdout, &both, progressIn)
	cmd.Stderr = s.tee(LogStderr, &stderr, &both, progressIn)
	shown := make(chan struct{})
	go func() {
		defer close(shown)
		showLines(ctx, progress)
	}()
	err := cmd.Run()
	_ = progressIn.Close()
	<-shown
	if err != nil {
		return fmt.Errorf("%w: running %q:\n%s", err, *command, both.buf.String())
	}
	s.Stdout = strings.TrimSuffix(stdout.String(), "\n")
	s.Stderr = strings.TrimSuffix(stderr.String(), "\n")
	return nil
}

func (a *Args) tee(stream Logging, capture, both, progress io.Writer) io.Writer {
	if a.logs(stream) {
		return io.MultiWriter(capture, both, progress)
	}
	return io.MultiWriter(capture, both)
}

// showLines shows each line as the resource's status. It always reads to the end: a line too long
// for the scanner must not block the command.
func showLines(ctx context.Context, r io.Reader) {
	logger := p.GetLogger(ctx)
	for lines := bufio.NewScanner(r); lines.Scan(); {
		logger.InfoStatus(lines.Text())
	}
	_, _ = io.Copy(io.Discard, r)
}
