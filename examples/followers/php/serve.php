<?php
declare(strict_types=1);
// Answers reads from stdin through a Follower: {"get": values} gives {"value": …, "hit": true}. What is not held it asks for
// with {"load": values}, and reads {"value": …}. {"get": null} tells why it is not ready. This one needs no coroutines; with Swoole see
// docs/protocol.md. Without a dataset, {"get": name} takes cache keys, and the section is what the lane says: only a test may trust that.
//
//   php serve.php HOST:PORT NAMESPACE MAX_STALE POLL [LANES SECTIONS DATASET TEMPLATE TTL]    (seconds)
foreach (['Background', 'Follower', 'Lane', 'LocalTable', 'Names', 'Tables'] as $class) {
    require __DIR__ . "/$class.php";
}

[, $address, $namespace, $maxStale, $poll] = $argv;

$connect = function (float $readTimeout) use ($address): Redis {
    [$host, $port] = explode(':', $address);
    $redis = new Redis();
    $redis->connect($host, (int) $port, 3.0, null, 0, $readTimeout);
    return Follower::plain($redis);
};
[$lanes, $sections, $dataset, $template, $ttl] = array_slice($argv, 5) ?: (function () use ($connect, $namespace): array {
    $meta = $connect(3.0)->hGetAll('{fr:' . $namespace . ':0}:meta');
    $field = array_values(array_filter(array_keys($meta), fn ($field) => str_starts_with((string) $field, 'd:')))[0];
    $section = ['dataset' => substr($field, 2), 'hash' => $meta[$field], 'names' => []];
    return [$meta['lanes'], json_encode([$section]), $section['dataset'], null, '600'];
})();
$follower = new Follower(LocalTable::class, $namespace, json_decode($sections, true), (int) $lanes, (float) $maxStale, 1000, ttl: (float) $ttl);

$frames = new Background(function (callable $tell) use ($connect, $follower): void {
    $redis = $connect(0.0);
    $redis->setOption(Redis::OPT_READ_TIMEOUT, -1);
    $tell(null); // whatever was published until now may be lost
    $channels = array_map(fn (Lane $lane) => $lane->prefix . 'ch', $follower->lanes);
    $redis->subscribe($channels, fn ($redis, $channel, $frame) => $tell([array_search($channel, $channels, true), $frame]));
});
$heads = new Background(function (callable $tell) use ($connect, $follower, $poll): void {
    for ($redis = null;; usleep((int) ((float) $poll * 1e6))) {
        foreach ($follower->lanes as $n => $lane) {
            try {
                $tell([$n, ...$follower->ask($redis ??= $connect(3.0), $lane)]);
            } catch (RedisException $error) {
                [$redis] = [null, $tell([$n, $error->getMessage(), 0])];
            }
        }
    }
});
register_shutdown_function(fn () => [$frames->stop(), $heads->stop()]);

/** Takes what Redis said; returns when stdin has a line and nothing else is waiting. */
$attend = function () use ($follower, $frames, $heads): void {
    while (true) {
        [$read, $none] = [[$frames->stream, $heads->stream, STDIN], null];
        stream_select($read, $none, $none, null);
        if (in_array($frames->stream, $read, true)) {
            $heard = $frames->hear();
            $heard === null ? array_map(fn (Lane $lane) => $lane->gap(), $follower->lanes) : $follower->lanes[$heard[0]]->message($heard[1]);
        } elseif (in_array($heads->stream, $read, true)) {
            [$n, $values, $asked] = $heads->hear();
            $lane = $follower->lanes[$n];
            if (is_string($values)) {
                $lane->error = $values;
            } elseif (!$lane->polled($values, $asked)) {
                $frames->restart(); // subscribe again: messages get lost
            }
        } else {
            return;
        }
    }
};
$say = fn (array $line) => fwrite(STDOUT, json_encode($line) . "\n");

for ($attend(); ($line = fgets(STDIN)) !== false; $attend()) {
    $get = json_decode($line, true)['get'];
    if ($get === null) {
        $say(['why' => implode('; ', $follower->notReady())]);
        continue;
    }
    $hit = true;
    $load = function (mixed $what) use ($say, &$hit): ?string {
        $hit = false;
        $say(['load' => $what]);
        return json_decode(fgets(STDIN), true)['value'] ?? null;
    };
    $value = is_string($get) ? $follower->read($dataset, $get, fn () => $load($get)) : $follower->get($dataset, $template, $get, $load);
    $say(['value' => $value, 'hit' => $hit]);
}
