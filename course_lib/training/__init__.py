"""What makes the training loop fast and safe: one thing a file.

batches   the pictures, timesteps and noise of each update
engine    gradients and steps: in one process, in its threads, or in many processes
workers   threads that share a batch on a CPU
clock     how long the training took, without pauses
watch     ends a training whose gradient is no longer finite
state     what a training needs to go on later
"""
