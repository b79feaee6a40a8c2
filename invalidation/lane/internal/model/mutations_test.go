package model_test

import "strings"

// mut is a set of protocol rules switched off. The empty set is the full protocol.
// Every rule of the protocol that is not here is either structural or not modelled (see doc.go).
type mut uint64

const (
	noGuard          mut = 1 << iota // node: insert a fill although its key was invalidated meanwhile
	noLease                          // shared tier: fills need no token, only "not older than what is there"
	plainDel                         // shared tier: invalidation is DEL, no tombstone and no floor
	noFloor                          // shared tier: floor is not compared at fill
	pubsubOnly                       // node: no chain, no sync
	seqOnly                          // node: compares sequence numbers instead of entry IDs
	noGapFlush                       // node: catches up from the top after a mismatch without flushing
	noWm                             // worker: no watermark check, no contiguity check, no repair
	lane0Only                        // worker: periodic watermark check looks at lane 0 only and emit does not check contiguity
	wmAhead                          // worker: watermark of all lanes written before the items
	splitEmit                        // worker: tombstones and append in two scripts
	appendFirst                      // worker: append first, tombstones afterwards
	bcastFirst                       // worker: emit before the MySQL transaction
	commitFirst                      // worker: Kafka offset committed before the work
	skipUnchanged                    // worker: no emit for events that changed no row
	noWindow                         // worker: a new lane starts at the committed offset (R = 0)
	localAnyway                      // node: insert locally although the shared fill was refused
	noPending                        // worker: displaced derived keys only in memory
	purgeOnEmit                      // worker: displaced rows deleted as soon as they were emitted
	purgeNoFlush                     // worker: repairs over purged displaced rows without a lane flush
	oldKeyMissed                     // worker: only the new derived key is invalidated
	noHold                           // derived keys: a lagging replica may fill right after an invalidation
	derivedKeep                      // derived keys: "value there with version >= 0" keeps it (no ver=0 rule)
	noTagCheck                       // shared tier: HIT does not compare tag stamps
	tagStampFill                     // shared tier: tag stamp taken at fill time instead of lease time
	tagStampLate                     // node: entry stamped when inserted instead of when the fill began
	tagOneLane                       // worker: tag invalidation goes to one lane only
	noTagHold                        // tags: a lagging replica may fill right after a tag invalidation
	holdAtFill                       // shared tier: floor and tag hold judged when the fill arrives, not when the lease was given
	ttlDropsFloor                    // shared tier: a floor dies with the value it was found at
	noRootCheck                      // shared tier: values and leases of an older root stay valid
	l1NoHold                         // L1-only mode: a lagging replica may fill right after an invalidation
	followerNoPoll                   // simple follower: no periodic poll of the lane head
	followerNoGuard                  // simple follower: caches a load although messages arrived meanwhile
	floorLowered                     // emit: a floor still needed is overwritten by a lower one
	oneFloorHash                     // get: looks for the floor only in the floor hash in use
	rotateEarly                      // emit: a floor hash is emptied although floors in it are still needed
	hold0Lagging                     // hold-0 namespace: loads read a lagging source
	hold0Split                       // hold-0 namespace: UNLINK in a script of its own before the append
	hold0AppendFirst                 // hold-0 namespace: UNLINK in a script of its own after the append
	hold0LeaseStays                  // hold-0 namespace: emit deletes values but not leases
	otherEmits                       // other writers: emit what they made stale themselves, without the topic
	outboxAfter                      // other writers: the outbox row is written after the row's transaction, not in it
	outboxNoSweep                    // other writers: no one publishes for one that died
	noPlaceholder                    // worker: the old row is read without a lock where there is none yet
	workerNoHash                     // worker: writes although MySQL knows another cache section
	adoptLate                        // worker: writes under a new cache section before every lane has it
	adoptNoFlush                     // worker: a lane gets another cache section, and keeps its entries
	adoptNoHold                      // worker: the flush for another cache section has no hold
	createNoHold                     // worker: a lane that is recreated right after a change of the cache section has no hold
	repairOther                      // worker: emits again into a lane that has another cache section
	nodeNoHash                       // node: caches although a lane has another cache section
	fillUnlooked                     // node: fills under a root that it has not looked at

	flushUnlooked // node: caches after a flush before it looked what the lane's cache section is
	hitUnproved   // shared tier: a server that takes no writes answers hits
	hitUnlooked   // node: uses a hit under a root that it has not looked at

	followerJoinsAny // simple follower: a reader takes a running load of its key although the key was invalidated since it began

	boundedAny   // node: keeps what the shared tier did not take although a lagging source gave it
	boundedLong  // node: such an entry is served beyond its bound
	boundedStays // node: such an entry stays although its key was invalidated while it was loaded

	earlyUnchecked // node: keeps a load before its fill although floor or tags may refuse it

	lastMut = earlyUnchecked

	// needBounded are the rules about entries that a node keeps without the shared tier.
	needBounded = boundedAny | boundedLong | boundedStays

	// needOthers are the rules about other writers; with one of them switched off every seed has such writers.
	needOthers = otherEmits | outboxAfter | outboxNoSweep | noPlaceholder

	// needRollout are the rules about cache sections; with one of them switched off the section changes in every seed.
	needRollout = workerNoHash | adoptLate | adoptNoFlush | adoptNoHold | createNoHold | repairOther | nodeNoHash | fillUnlooked | flushUnlooked | hitUnlooked

	// allHold0 switches no rule off: every seed is in hold-0 mode, else a quarter is.
	allHold0 mut = 1 << 63
	// allRollout likewise: the cache section changes in every seed, else in some.
	allRollout mut = 1 << 62
)

var mutName = map[mut]string{
	noGuard: "noGuard", noLease: "noLease", plainDel: "plainDel", noFloor: "noFloor", pubsubOnly: "pubsubOnly",
	seqOnly: "seqOnly", noGapFlush: "noGapFlush", noWm: "noWm", lane0Only: "lane0Only", wmAhead: "wmAhead",
	splitEmit: "splitEmit", appendFirst: "appendFirst", bcastFirst: "bcastFirst", commitFirst: "commitFirst",
	skipUnchanged: "skipUnchanged", noWindow: "noWindow", localAnyway: "localAnyway", noPending: "noPending",
	purgeOnEmit: "purgeOnEmit", purgeNoFlush: "purgeNoFlush", oldKeyMissed: "oldKeyMissed", noHold: "noHold",
	derivedKeep: "derivedKeep", noTagCheck: "noTagCheck", tagStampFill: "tagStampFill", tagStampLate: "tagStampLate",
	tagOneLane: "tagOneLane", noTagHold: "noTagHold", holdAtFill: "holdAtFill", ttlDropsFloor: "ttlDropsFloor", noRootCheck: "noRootCheck",
	l1NoHold: "l1NoHold", followerNoPoll: "followerNoPoll", followerNoGuard: "followerNoGuard",
	floorLowered: "floorLowered", oneFloorHash: "oneFloorHash", rotateEarly: "rotateEarly", hold0Lagging: "hold0Lagging", hold0Split: "hold0Split",
	hold0AppendFirst: "hold0AppendFirst", hold0LeaseStays: "hold0LeaseStays",
	otherEmits: "otherEmits", outboxAfter: "outboxAfter", outboxNoSweep: "outboxNoSweep", noPlaceholder: "noPlaceholder",
	workerNoHash: "workerNoHash", adoptLate: "adoptLate", adoptNoFlush: "adoptNoFlush", adoptNoHold: "adoptNoHold",
	createNoHold: "createNoHold", repairOther: "repairOther", nodeNoHash: "nodeNoHash", fillUnlooked: "fillUnlooked", flushUnlooked: "flushUnlooked",
	hitUnproved: "hitUnproved", hitUnlooked: "hitUnlooked",
	followerJoinsAny: "followerJoinsAny",
	boundedAny:       "boundedAny", boundedLong: "boundedLong", boundedStays: "boundedStays",
	earlyUnchecked: "earlyUnchecked",
}

// scenario is the full protocol in the seeds in which m is looked for.
func (m mut) scenario() mut {
	if m&needRollout != 0 {
		return allRollout
	}
	return 0
}

// allMutations lists the sets that must be caught.
func allMutations() []mut {
	var out []mut
	for m := mut(1); m <= lastMut; m <<= 1 {
		out = append(out, m)
	}
	return out
}

func (m mut) String() string {
	if m == 0 {
		return "(full protocol)"
	}
	var out []string
	for b := mut(1); b <= lastMut; b <<= 1 {
		if m&b != 0 {
			out = append(out, mutName[b])
		}
	}
	return strings.Join(out, "+")
}
