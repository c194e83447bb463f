"""A process that does one job after the other: a line of JSON in, a file and a line of JSON out.

`python -m tunewright.comparison.worker FOLDER` reads jobs on standard input and writes each result to
`FOLDER/KEY.json`, whole or not at all; it ends with its input.
"""

from __future__ import annotations

import json
import os
import sys
import traceback
from pathlib import Path
from typing import Any

from tunewright import output
from tunewright.comparison.jobs import Job
from tunewright.comparison.kept import Kept
from tunewright.comparison.trial import perform
from tunewright.errors import Fault


def work(job: Job, folder: Path, kept: Kept) -> dict[str, Any]:
    """Does a job and keeps its result; what is answered: {"key"}, or {"key", "fault", "status"}."""
    try:
        result = perform(job, kept, folder)
        output.write(folder / f"{job.key}.json", json.dumps(result.plain()))
    except Fault as fault:
        return {"key": job.key, "fault": str(fault), "status": fault.status}
    except Exception as error:
        traceback.print_exc()
        return {"key": job.key, "fault": f"{type(error).__name__}: {error}", "status": 1}
    return {"key": job.key}


def main() -> None:
    """Answers the jobs on standard input until it ends."""
    # What libraries print must not come between the answers.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    folder, kept = Path(sys.argv[1]), Kept()
    for line in sys.stdin:
        print(json.dumps(work(Job.of(json.loads(line)), folder, kept)), file=answers, flush=True)


if __name__ == "__main__":
    main()
