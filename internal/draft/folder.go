package draft

import (
	"io/fs"
	"maps"
	"slices"
	"time"
)

// folder is a folder of files in memory, by name.
type folder map[string]string

// Open implements fs.FS. No file is opened: ReadFile and ReadDir read them.
func (f folder) Open(name string) (fs.File, error) {
	return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrNotExist}
}

// ReadFile implements fs.ReadFileFS.
func (f folder) ReadFile(name string) ([]byte, error) {
	text, ok := f[name]
	if !ok {
		return nil, &fs.PathError{Op: "read", Path: name, Err: fs.ErrNotExist}
	}
	return []byte(text), nil
}

// ReadDir implements fs.ReadDirFS.
func (f folder) ReadDir(string) ([]fs.DirEntry, error) {
	var list []fs.DirEntry
	for _, name := range slices.Sorted(maps.Keys(f)) {
		list = append(list, fs.FileInfoToDirEntry(file{name, int64(len(f[name]))}))
	}
	return list, nil
}

// file describes a file of a folder.
type file struct {
	name string
	size int64
}

// Name implements fs.FileInfo.
func (f file) Name() string { return f.name }

// Size implements fs.FileInfo.
func (f file) Size() int64 { return f.size }

// Mode implements fs.FileInfo.
func (file) Mode() fs.FileMode { return 0o444 }

// ModTime implements fs.FileInfo.
func (file) ModTime() time.Time { return time.Time{} }

// IsDir implements fs.FileInfo.
func (file) IsDir() bool { return false }

// Sys implements fs.FileInfo.
func (file) Sys() any { return nil }
