// Package prefixindex knows which worker holds which prefix, in which tier.
package prefixindex
