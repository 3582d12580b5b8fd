"""Train on one GPU, or on the CPU: python train.py --config config/quickstart.yaml"""

from config.errors import run_cli
from utils.training.command_line import train_from_command_line

if __name__ == "__main__":
    run_cli(lambda: train_from_command_line(__doc__, "none"))
