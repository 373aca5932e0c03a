"""python train.py [group=choice ...] [key=value ...]: one training run, into MLflow."""

from pneumo.cli.train import main

if __name__ == "__main__":
    main()
