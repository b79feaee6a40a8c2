<?php
declare(strict_types=1);

/**
 * A local cache that follows one Freshet lane and never serves what is staler than $maxStale seconds.
 *
 * All its state that readers need lies in a table, so one process follows and many read:
 *
 *     $follower = new Follower($table);                 // before the processes part
 *     $user = $follower->get('user:42', $load);         // $load($key) reads the primary
 *
 * $table is a LocalTable, or a Swoole\Table with the columns n (integer) and v (string); docs/protocol.md shows both.
 * The rules are those of docs/protocol.md, "Simple follower"; here an invalidation numbers its key's slot, and an entry
 * holds while its own number, taken before its load, is not below.
 */
final class Follower
{
    private const SLOTS = 1024;
    private ?string $last = null;    // newest entry known
    private array $seen = [];        // entries received since the last poll
    private ?string $want = null;    // head of a poll that was not received yet,
    private int $wantAsked = 0;      // and when that poll was sent

    public function __construct(private object $table, private float $maxStale = 10.0, private int $maxBytes = 4096)
    {
        foreach (['clock', 'flushed', ...array_map($this->slot(...), range(0, self::SLOTS - 1))] as $row) {
            $table->set($row, ['n' => 0, 'v' => '']);
        }
        $table->set('confirm', ['n' => PHP_INT_MIN >> 1, 'v' => '']); // everything up to then was applied
    }

    public function get(string $key, callable $load): string
    {
        $row = base64_encode(hash('sha256', $key, true)); // names of rows are short
        $began = $this->number('clock');
        $fresh = hrtime(true) - $this->number('confirm') <= $this->maxStale * 1e9;
        $entry = $fresh ? $this->table->get($row) : false;
        if ($entry && $entry['n'] >= $this->number($this->slot(crc32($key))) && $entry['n'] >= $this->number('flushed')) {
            return $entry['v'];
        }
        $value = $load($key);
        if ($fresh && strlen($value) <= $this->maxBytes) {
            $this->table->set($row, ['n' => $began, 'v' => $value]);
        }
        return $value;
    }

    public function message(string $frame): void
    {
        [$prev, $id, $payload] = array_pad(explode(' ', $frame, 3), 3, '');
        $change = json_decode($payload, true);
        $change = is_array($change) ? $change : [];
        foreach (array_filter((array) ($change['k'] ?? []), is_string(...)) as $key) {
            $this->table->set($this->slot(crc32($key)), ['n' => $this->table->incr('clock', 'n')]);
        }
        $known = ($change['v'] ?? null) === 1 && !array_key_exists('x', $change) && !array_key_exists('g', $change);
        if (!$known || $prev !== $this->last) {
            $this->flush($id);
        }
        $this->last = $id;
        $this->seen[$id] = true;
        if ($id === $this->want) {
            $this->table->set('confirm', ['n' => $this->wantAsked]);
            $this->want = null;
        }
    }

    /** Takes what a poll that was sent at the time $asked (hrtime) read; false if messages get lost: subscribe anew. */
    public function head(?string $head, int $asked): bool
    {
        $lost = false;
        if ($head === null) {
            $this->flush(null);
        } elseif ($head === $this->last || isset($this->seen[$head])) {
            $this->table->set('confirm', ['n' => $asked]);
            $this->want = null;
        } elseif ($this->want !== null || $this->last === null) {
            $lost = $this->last !== null;
            $this->flush($head);
            $this->table->set('confirm', ['n' => $asked]);
        } else {
            [$this->want, $this->wantAsked] = [$head, $asked];
        }
        $this->seen = [$this->last => true];
        return !$lost;
    }

    /** Whatever was published until now may be lost. */
    public function gap(): void
    {
        $this->flush(null);
    }

    private function flush(?string $head): void
    {
        $this->table->set('flushed', ['n' => $this->table->incr('clock', 'n')]);
        [$this->last, $this->want] = [$head, null];
    }

    private function slot(int $hash): string
    {
        return 'slot' . $hash % self::SLOTS;
    }

    private function number(string $row): int
    {
        return $this->table->get($row, 'n');
    }
}
