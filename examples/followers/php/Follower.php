<?php
declare(strict_types=1);

/**
 * A local cache that follows a Freshet namespace and never serves what is staler than $maxStale seconds.
 *
 * All its state that readers need is in two tables, so one process follows and many read:
 *
 *     $follower = new Follower(Swoole\Table::class, 'shop', ['users' => 'nZ3…']);      // before the processes part; freshet schema hash
 *     $user = $follower->get('users', 'user:{id}', ['id' => 42], $load);             // $load($values) reads the primary
 *
 * The rules are those of docs/protocol.md, "Simple follower"; here an invalidation numbers its key's slot, and an entry
 * holds while its own number, taken before its load, is not below.
 */
final class Follower
{
    public readonly Tables $tables;
    /** @var Lane[] */
    public readonly array $lanes;

    /** $sections: dataset to the hash of its cache section, as the workers have it. */
    public function __construct(
        string $class,
        string $namespace,
        private array $sections,
        int $lanes = 1,
        private float $maxStale = 10.0,
        int $maxEntries = 65536,
        int $maxBytes = 4096,
        private float $ttl = 600.0,
    ) {
        $names = fn (int $n) => ["flushed$n", "confirm$n", ...array_map(fn ($dataset) => "agreed$n:$dataset", array_keys($sections))];
        $this->tables = new Tables($class, $maxEntries, $maxBytes, ['clock', 'refused', ...array_merge(...array_map($names, range(0, $lanes - 1)))]);
        $this->lanes = array_map(fn (int $n) => new Lane($this->tables, $namespace, $n, $lanes, $sections), range(0, $lanes - 1));
    }

    /** Returns a connection of the follower's own as the protocol needs it: names and values are Freshet's, whatever a framework sets. */
    public static function plain(Redis $redis): Redis
    {
        $redis->setOption(Redis::OPT_PREFIX, '');
        $redis->setOption(Redis::OPT_SERIALIZER, Redis::SERIALIZER_NONE);
        return $redis;
    }

    /**
     * Returns the record with these properties, by cache.key or a derived template. $load returns a string, or null for a record that is not
     * there; that is kept as well.
     */
    public function get(string $dataset, string $template, array $values, callable $load): ?string
    {
        $name = Names::render($template, $values);
        if ($name === null) {
            throw new InvalidArgumentException("get by $template: a property is missing, so the record has no such key");
        }
        return $this->read($dataset, $name, fn () => $load($values));
    }

    /** Returns the entry of a cache key, or what $load() gives. */
    public function read(string $dataset, string $name, callable $load): ?string
    {
        $this->sections[$dataset] ?? throw new InvalidArgumentException("read of dataset $dataset: give its hash; print it with freshet schema hash");
        $lane = crc32($name) % count($this->lanes);
        $now = hrtime(true);
        $began = $this->tables->number('clock');
        $fresh = $now - $this->tables->number("confirm$lane") <= $this->maxStale * 1e9 && $this->tables->number("agreed$lane:$dataset") === 1;
        $entry = $fresh ? $this->tables->find($name) : null;
        if ($entry && $now < $entry['e'] && $entry['n'] >= $this->tables->number($this->tables->slot(crc32($name)))
            && $entry['n'] >= $this->tables->number("flushed$lane")) {
            return $entry['found'] ? $entry['v'] : null;
        }
        $value = $load();
        if ($fresh && strlen($value ?? '') <= $this->tables->maxBytes) {
            $row = ['n' => $began, 'e' => $now + (int) ($this->ttl * 1e9), 'found' => (int) ($value !== null), 'v' => $value ?? ''];
            $this->tables->store($name, $row) || $this->tables->state->incr('refused', 'n');
        }
        return $value;
    }

    /** Returns why keys are loaded by every read, one sentence for each lane and dataset; only the process that follows knows. */
    public function notReady(): array
    {
        return array_merge(...array_map(fn (Lane $lane) => $lane->notReady($this->maxStale), $this->lanes));
    }

    /** Returns how many entries the table refused. More than 0: it was not made by Tables. */
    public function refused(): int
    {
        return $this->tables->number('refused');
    }
}
