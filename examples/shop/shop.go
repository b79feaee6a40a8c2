// Package shop is an example: the datasets of a small shop, embedded so that services, tests and demos share one copy.
//
// Users have integer keys, products carry a text key (their article number), and orders are keyed by two properties.
package shop

import (
	"embed"
	"io/fs"
)

//go:embed datasets
var files embed.FS

// Datasets is the folder of the declarations and their schemas, as schemas.LoadDatasets wants it.
func Datasets() fs.FS {
	sub, err := fs.Sub(files, "datasets")
	if err != nil {
		panic("shop: embedded folder: " + err.Error()) // the folder is part of the program
	}
	return sub
}
