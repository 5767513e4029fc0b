#!/usr/bin/env bash
# A whole sweep as one SLURM job with several GPUs, where nothing may run for long on the login node:
#
#     sbatch deploy/slurm.sh -m layer=1,3,5,7,9,11 precision=fp16,int8
#     sbatch --gres=gpu:4 --partition=long deploy/slurm.sh +experiment=quantization
#
# The jobs of the sweep spread over the GPUs of the node. After a time limit or a lost node SLURM starts it again, and
# resume=true goes on: the folder of results is named after the SLURM job, which keeps its number.
#SBATCH --job-name=rwkv_sweep
#SBATCH --nodes=1
#SBATCH --ntasks=1
#SBATCH --gres=gpu:2
#SBATCH --cpus-per-task=16
#SBATCH --mem=64G
#SBATCH --time=02:00:00
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --output=slurm-%j.log
# Two minutes before the time limit: running jobs are recorded as KILLED, then SLURM is asked to start it again.
#SBATCH --signal=B:TERM@120
set -euo pipefail

cd "${SLURM_SUBMIT_DIR:?start this file with sbatch}"
gpus=${SLURM_GPUS_ON_NODE:-1}
folder=multirun/slurm-$SLURM_JOB_ID
arguments=("$@" "hydra.sweep.dir=$folder" resume=true)
if [ "$gpus" -gt 1 ]; then
  arguments+=(hydra/launcher=parallel "hydra.launcher.n_jobs=$gpus")
fi

.venv/bin/python -m rwkv_sweep "${arguments[@]}" &
sweep=$!
trap 'kill -TERM "$sweep"' TERM
status=0
wait "$sweep" || status=$?
if kill -0 "$sweep" 2>/dev/null; then # the signal came first: the sweep is ending
  wait "$sweep" || status=$?
fi
if [ "$status" -eq 143 ]; then
  scontrol requeue "$SLURM_JOB_ID"
fi
exit "$status"
