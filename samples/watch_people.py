"""Results in a loop: print who is seen, frame by frame, and stop when you have seen enough.

python samples/watch_people.py sample:bikes
python samples/watch_people.py rtsp://camera/stream
"""

import argparse
from collections.abc import Sequence

from llamapipe import Pipeline
from llamapipe_operators import detect, track


def main(arguments: Sequence[str] | None = None) -> int:
    """Print a line for each frame with people; returns how many different people there were."""
    parser = argparse.ArgumentParser(description="Print who is seen in a video.")
    parser.add_argument("source", nargs="?", default="sample:bikes", help="file, stream, camera number or sample:NAME")
    parser.add_argument("--frames", type=int, default=None, help="stop after so many frames")
    options = parser.parse_args(arguments)

    with Pipeline("watch-people") as pipeline:
        people = detect(pipeline.frames, task="person-detection", min_score=0.1, name="people")
        track(people, name="follow")

    known: set[int] = set()
    for result in pipeline.run(options.source, max_frames=options.frames):
        for person in result.boxes("follow"):
            new = person["track_id"] not in known
            known.add(person["track_id"])
            print(f"{result.pts_s:7.2f} s  person {person['track_id']}{' (new)' if new else ''} at {person['box']}")
    print(f"{len(known)} people")
    return len(known)


if __name__ == "__main__":
    main()
