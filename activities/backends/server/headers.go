//go:build tools

// Package headers keeps github.com/gen2brain/malgo in go.mod: that module carries miniaudio.h,
// which Ollama's C++ code includes and which Debian does not package.
package headers

import _ "github.com/gen2brain/malgo"
