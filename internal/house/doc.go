// Package house holds the tests of the house rules: who imports whom, how long
// a file may be, what may not be named. It has no other code.
package house
