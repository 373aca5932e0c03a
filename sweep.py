"""python sweep.py -m [search=choice ...] [key=value ...]: a study of many training runs, into MLflow."""

from pneumo.cli.sweep import main

if __name__ == "__main__":
    main()
