#!/bin/bash
# Train on four machines of eight GPUs under Slurm: sbatch docs/slurm.sh config/simplepose_coco_512.yaml
# The project's folder, its environment, the data and runs/ are on a file system that all machines share.
#SBATCH --job-name=simplepose
#SBATCH --nodes=4
#SBATCH --ntasks-per-node=1
#SBATCH --gpus-per-node=8
#SBATCH --cpus-per-task=64
#SBATCH --time=24:00:00
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --signal=TERM@60
set -eu
config=${1:?usage: sbatch docs/slurm.sh CONFIG [key=value ...]}
shift

first=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
export OMP_NUM_THREADS=1

# SIGTERM comes before the time is up, and when the job is taken from its machines: every process then ends after its step with a
# checkpoint, for which torchrun gives them 30 seconds. Slurm starts the job again where it is requeued; sent again by hand, it goes on as well.
srun --kill-on-bad-exit=0 --cpus-per-task="$SLURM_CPUS_PER_TASK" .venv/bin/torchrun \
    --nnodes="$SLURM_NNODES" --nproc_per_node="$SLURM_GPUS_ON_NODE" --max-restarts=3 \
    --rdzv-id="$SLURM_JOB_ID" --rdzv-backend=c10d --rdzv-endpoint="$first:29500" \
    train_distributed.py --config "$config" --resume auto "$@"
