"""Train with one process per GPU (DistributedDataParallel): torchrun --nproc_per_node=4 train_distributed.py --config ..."""

from config.errors import run_cli
from utils.training.command_line import train_from_command_line

if __name__ == "__main__":
    run_cli(lambda: train_from_command_line(__doc__, "distributed"))
