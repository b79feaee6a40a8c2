<?php
declare(strict_types=1);

/**
 * The tables that a follower and its readers share, of class Swoole\Table or LocalTable. Entries have two places each by the hash of their key,
 * and the one that ends sooner makes way: the table never holds more than $maxEntries rows. A Swoole\Table refuses new rows long before it
 * is full when the hashes of rows collide (at its default share of rows for conflicts it refuses 17 % of as many rows as it was made for),
 * so both tables have enough of these.
 */
final class Tables
{
    /** One slot for each part of the keys: an invalidation makes everything in its part stale. */
    public const SLOTS = 65536;
    private const CONFLICTS = 0.5;

    public object $entries;
    public object $state;
    private int $latest = 0; // time that now() returned in this process

    /** $state: rows of the follower's own beside the slots. */
    public function __construct(string $class, private int $maxEntries, public readonly int $maxBytes, array $state)
    {
        $this->entries = new $class($maxEntries, self::CONFLICTS);
        foreach (['k' => 32, 'v' => $maxBytes] as $column => $bytes) {
            $this->entries->column($column, $class::TYPE_STRING, $bytes);
        }
        foreach (['n', 'e', 'found'] as $column) {
            $this->entries->column($column, $class::TYPE_INT);
        }
        $this->state = new $class(self::SLOTS, self::CONFLICTS);
        $this->state->column('n', $class::TYPE_INT);
        if (!$this->entries->create() || !$this->state->create()) {
            throw new RuntimeException('create tables: no memory for ' . self::bytes($maxEntries, $maxBytes) . ' bytes; lower maxEntries or maxBytes');
        }
        foreach ([...array_map($this->slot(...), range(0, self::SLOTS - 1)), 'ahead', ...$state] as $row) {
            if (!$this->state->set($row, ['n' => 0])) {
                throw new RuntimeException("create tables: row $row was refused; every slot is needed");
            }
        }
    }

    /** Returns the memory that Swoole takes for both tables. */
    public static function bytes(int $maxEntries, int $maxBytes): int
    {
        $table = function (int $rows, int $columns): int {
            $size = 1 << max(6, (int) ceil(log($rows, 2)));
            $row = 88 + $columns; // header and the 64 bytes of its name
            return (int) ($size * (8 + $row) + $size * self::CONFLICTS * (24 + $row));
        };
        return $table($maxEntries, 36 + 4 + $maxBytes + 3 * 8) + $table(self::SLOTS, 8);
    }

    public function slot(int $hash): string
    {
        return hash('xxh3', 's' . $hash % self::SLOTS); // names that spread, whatever hash the table has
    }

    /** Returns monotonic nanoseconds that also pass while the machine is suspended, as soon as its wall clock was set right. */
    public function now(): int
    {
        $ahead = (int) (microtime(true) * 1e6) * 1000 - hrtime(true);
        if ($ahead > $this->number('ahead') + 1_000_000) { // one for all processes, and written seldom
            $this->state->set('ahead', ['n' => $ahead]);
        }
        // What is not written to the table would let the time go back by up to a millisecond.
        return $this->latest = max($this->latest + 1, hrtime(true) + max($ahead, $this->number('ahead')));
    }

    public function number(string $row): int
    {
        return $this->state->get($row, 'n');
    }

    /** Returns the row of a cache key, or null. */
    public function find(string $key): ?array
    {
        $hash = hash('sha256', $key, true);
        foreach ($this->places($hash) as $place) {
            $row = $this->entries->get($place);
            if ($row && $row['k'] === $hash) {
                return $row;
            }
        }
        return null;
    }

    /** Stores a row in place of an older one of its key, or of what ends sooner; false if the table refused it. */
    public function store(string $key, array $row): bool
    {
        $hash = hash('sha256', $key, true);
        [$best, $end] = ['', PHP_INT_MAX];
        foreach ($this->places($hash) as $place) {
            $there = $this->entries->get($place);
            if ($there && $there['k'] === $hash) {
                return $there['n'] > $row['n'] || $this->entries->set($place, $row); // never an older load over a newer one
            }
            if (($there ? $there['e'] : 0) < $end) {
                [$best, $end] = [$place, $there ? $there['e'] : 0];
            }
        }
        return $this->entries->set($best, ['k' => $hash] + $row);
    }

    /** @return string[] */
    private function places(string $hash): array
    {
        return array_map(fn (int $n) => hash('xxh3', 'e' . $n % $this->maxEntries), array_values(unpack('N2', $hash)));
    }
}
