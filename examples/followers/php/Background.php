<?php
declare(strict_types=1);

/**
 * Work in a child process, for a program without coroutines: phpredis waits for Redis and lets nothing else happen.
 * The work gets a function that tells the parent something; each is a line of JSON on $stream.
 */
final class Background
{
    /** @var resource */
    public $stream;
    private int $pid = 0;

    public function __construct(private Closure $work)
    {
        $this->start();
    }

    public function hear(): mixed
    {
        $line = fgets($this->stream);
        return $line === false ? exit(1) : json_decode($line, true);
    }

    public function restart(): void
    {
        $this->stop();
        $this->start();
    }

    public function stop(): void
    {
        posix_kill($this->pid, SIGKILL);
        pcntl_waitpid($this->pid, $status);
        fclose($this->stream);
    }

    private function start(): void
    {
        [$this->stream, $out] = stream_socket_pair(STREAM_PF_UNIX, STREAM_SOCK_STREAM, 0);
        $parent = getmypid();
        if (($this->pid = pcntl_fork()) !== 0) {
            fclose($out);
            return;
        }
        $tell = function (mixed $what) use ($out, $parent): void {
            if (posix_getppid() !== $parent || !fwrite($out, json_encode($what) . "\n")) {
                posix_kill(getmypid(), SIGKILL); // without the parent's shutdown functions
            }
        };
        while (true) {
            try {
                ($this->work)($tell);
            } catch (RedisException) {
                usleep(100_000); // and begin anew
            }
        }
    }
}
