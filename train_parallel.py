"""Train in one process that splits each batch over this machine's GPUs (DataParallel): python train_parallel.py --config ..."""

from config.errors import run_cli
from utils.training.command_line import train_from_command_line

if __name__ == "__main__":
    run_cli(lambda: train_from_command_line(__doc__, "data_parallel"))
