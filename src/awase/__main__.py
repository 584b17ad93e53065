"""`python -m awase` is `awase`."""

from awase.cli import main

raise SystemExit(main())
