<?php
declare(strict_types=1);

/**
 * A local cache that follows a Freshet namespace and never serves what is staler than $maxStale seconds.
 *
 * All its state that readers need is in two tables, so one process follows and many read:
 *
 *     $sections = json_decode(file_get_contents('sections.json'), true);           // freshet schema hash --json > sections.json
 *     $follower = new Follower(Swoole\Table::class, 'shop', $sections);              // before the processes part
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
    /** @var array[] dataset to its section */
    private array $sections = [];

    /** $sections: what freshet schema hash --json prints, for the datasets as the workers have them. */
    public function __construct(
        string $class,
        string $namespace,
        array $sections,
        int $lanes = 1,
        private float $maxStale = 10.0,
        int $maxEntries = 65536,
        int $maxBytes = 4096,
        private float $ttl = 600.0,
    ) {
        foreach ($sections as $section) {
            if (!is_string($section['hash'] ?? null) || in_array($section['hash'], ['', '-'], true)) {
                throw new InvalidArgumentException("section of dataset $section[dataset]: it has no hash; give what freshet schema hash --json prints");
            }
            $this->sections[$section['dataset']] = $section;
        }
        $hashes = array_column($sections, 'hash', 'dataset');
        $names = fn (int $n) => ["flushed$n", "confirm$n", ...array_map(fn ($dataset) => "agreed$n:$dataset", array_keys($hashes))];
        $this->tables = new Tables($class, $maxEntries, $maxBytes, ['clock', 'refused', ...array_merge(...array_map($names, range(0, $lanes - 1)))]);
        $this->lanes = array_map(fn (int $n) => new Lane($this->tables, $namespace, $n, $lanes, $hashes), range(0, $lanes - 1));
    }

    /** Returns a connection of the follower's own as the protocol needs it: names and values are Freshet's, whatever a framework sets. */
    public static function plain(Redis $redis): Redis
    {
        $redis->setOption(Redis::OPT_PREFIX, '');
        $redis->setOption(Redis::OPT_SERIALIZER, Redis::SERIALIZER_NONE);
        !defined('Redis::OPT_COMPRESSION') || $redis->setOption(Redis::OPT_COMPRESSION, Redis::COMPRESSION_NONE);
        return $redis;
    }

    /**
     * Polls a lane: returns the values of its fields and when they were asked for, as Lane::polled() takes them. After an exception the
     * connection must be replaced: it may lead to a master that was.
     */
    public function ask(Redis $redis, Lane $lane): array
    {
        $asked = $this->tables->now();
        // Sent together, so to one server; only a master that takes writes is believed. phpredis says false to some errors and throws others.
        $replies = $redis->pipeline()->unlink($lane->prefix . 'nothing')->hMGet($lane->prefix . 'meta', $lane->fields)->exec();
        if (!is_array($replies) || !is_int($replies[0] ?? null) || !is_array($replies[1] ?? null)) {
            throw new RedisException('poll: ' . ($redis->getLastError() ?? 'no answer'));
        }
        return [array_values($replies[1]), $asked];
    }

    /**
     * Returns the record with these properties, by cache.key or a derived template. $load returns a string, or null for a record that is not
     * there; that is kept as well.
     */
    public function get(string $dataset, string $template, array $values, callable $load): ?string
    {
        $kinds = $this->sections[$dataset]['names'][$template] ?? throw new InvalidArgumentException(
            "get of dataset $dataset by $template: sections has no such template; take them from freshet schema hash --json",
        );
        $name = Names::render($template, $kinds, $values);
        if ($name === null) {
            throw new InvalidArgumentException("get by $template: a property is missing, so the record has no such key");
        }
        return $this->read($dataset, $name, fn () => $load($values));
    }

    /** Returns the entry of a cache key, or what $load() gives. */
    public function read(string $dataset, string $name, callable $load): ?string
    {
        $this->sections[$dataset] ?? throw new InvalidArgumentException("read of dataset $dataset: sections lacks it; print it with freshet schema hash --json");
        $lane = crc32($name) % count($this->lanes);
        $now = $this->tables->now();
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
