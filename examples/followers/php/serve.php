<?php
declare(strict_types=1);
// Answers reads from stdin through a Follower: {"get": key} gives {"value": …, "hit": true}. What is not held it asks for
// with {"load": key}, and reads {"value": …}. This one needs no coroutines; with Swoole see docs/protocol.md.
//
//   php serve.php HOST:PORT NAMESPACE MAX_STALE POLL    (seconds)
require __DIR__ . '/Background.php';
require __DIR__ . '/Follower.php';
require __DIR__ . '/LocalTable.php';

[, $address, $namespace, $maxStale, $poll] = $argv;
$prefix = '{fr:' . $namespace . ':0}:';

$connect = function (float $readTimeout) use ($address): Redis {
    [$host, $port] = explode(':', $address);
    $redis = new Redis();
    $redis->connect($host, (int) $port, 3.0, null, 0, $readTimeout);
    return $redis;
};
$frames = new Background(function (callable $tell) use ($connect, $prefix): void {
    $redis = $connect(0.0);
    $redis->setOption(Redis::OPT_READ_TIMEOUT, -1);
    $tell(null); // whatever was published until now may be lost
    $redis->subscribe([$prefix . 'ch'], fn ($redis, $channel, $frame) => $tell($frame));
});
$heads = new Background(function (callable $tell) use ($connect, $prefix, $poll): void {
    for ($redis = $connect(3.0);; usleep((int) ((float) $poll * 1e6))) {
        $asked = hrtime(true);
        $redis->unlink($prefix . 'nothing'); // only a master that takes writes is believed; others throw
        $tell([$redis->hGet($prefix . 'meta', 'last') ?: null, $asked]);
    }
});
register_shutdown_function(fn () => [$frames->stop(), $heads->stop()]);
$follower = new Follower(new LocalTable(), (float) $maxStale);

/** Takes what Redis said; returns when stdin has a line and nothing else is waiting. */
$attend = function () use ($follower, $frames, $heads): void {
    while (true) {
        [$read, $none] = [[$frames->stream, $heads->stream, STDIN], null];
        stream_select($read, $none, $none, null);
        if (in_array($frames->stream, $read, true)) {
            $frame = $frames->hear();
            $frame === null ? $follower->gap() : $follower->message($frame);
        } elseif (in_array($heads->stream, $read, true)) {
            $follower->head(...$heads->hear()) || $frames->restart(); // subscribe anew if messages get lost
        } else {
            return;
        }
    }
};
$say = fn (array $line) => fwrite(STDOUT, json_encode($line) . "\n");

for ($attend(); ($line = fgets(STDIN)) !== false; $attend()) {
    $hit = true;
    $value = $follower->get(json_decode($line)->get, function (string $key) use ($say, &$hit): string {
        $hit = false;
        $say(['load' => $key]);
        return json_decode(fgets(STDIN))->value;
    });
    $say(['value' => $value, 'hit' => $hit]);
}
