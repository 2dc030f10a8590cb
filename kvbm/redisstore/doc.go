// Package redisstore keeps blocks in a Redis that workers share.
//
// A block is a header key, kvasir:<layout fingerprint>:{<block hash>}, and one
// or more chunks under the same key with :0, :1, ... appended. The header carries
// the block's parent and the checksum of parent and bytes. It is written last
// and read together with the chunks in one round trip; whatever is missing, of
// another length or does not check is a miss. Values go from and to host slots
// without a copy in between.
//
// Reading a block renews its time to live. Every call ends within a short
// deadline. The store does not retry and does not judge: whether Redis is left
// alone after errors is the block manager's decision.
//
// The password is in the connection options and nowhere else: no error or name
// that leaves this package contains the URL.
package redisstore
